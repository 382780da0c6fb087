from mmseg_siglip.models.guides.dino import DINOGuide
from mmseg_siglip.models.guides.dinov2 import DINOv2Guide
from mmseg_siglip.models.guides.dinov3 import DINOv3Guide
from mmseg_siglip.models.guides.encoder import EncoderGuide
from mmseg_siglip.models.guides.find import find_guide
from mmseg_siglip.models.guides.frozen import Frozen, all_weights
from mmseg_siglip.models.guides.guide import Guide, build_guide
from mmseg_siglip.models.guides.mae import MAEGuide
from mmseg_siglip.models.guides.sam import SAMAttention, SAMGuide

__all__ = [
    'DINOGuide',
    'DINOv2Guide',
    'DINOv3Guide',
    'EncoderGuide',
    'Frozen',
    'Guide',
    'MAEGuide',
    'SAMAttention',
    'SAMGuide',
    'all_weights',
    'build_guide',
    'find_guide',
]
