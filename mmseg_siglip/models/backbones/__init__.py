from mmseg_siglip.models.backbones.build import build_encoder
from mmseg_siglip.models.backbones.clip import CLIPBackbone
from mmseg_siglip.models.backbones.siglip import SigLIPBackbone

__all__ = ['CLIPBackbone', 'SigLIPBackbone', 'build_encoder']
