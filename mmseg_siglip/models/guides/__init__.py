from mmseg_siglip.models.guides.dino import DINOGuide
from mmseg_siglip.models.guides.frozen import Frozen, all_weights
from mmseg_siglip.models.guides.guide import Guide, build_guide

__all__ = ['DINOGuide', 'Frozen', 'Guide', 'all_weights', 'build_guide']
