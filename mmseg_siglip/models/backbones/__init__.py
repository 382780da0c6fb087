from mmseg_siglip.models.backbones.build import build_encoder
from mmseg_siglip.models.backbones.clip import CLIPBackbone
from mmseg_siglip.models.backbones.dino_txt import DinoTxtBackbone
from mmseg_siglip.models.backbones.pe import PECoreBackbone
from mmseg_siglip.models.backbones.radio import RADIOBackbone
from mmseg_siglip.models.backbones.siglip import SigLIPBackbone
from mmseg_siglip.models.backbones.talk2dino import Talk2DINOBackbone
from mmseg_siglip.models.backbones.tips import TIPSBackbone

__all__ = [
    'CLIPBackbone',
    'DinoTxtBackbone',
    'PECoreBackbone',
    'RADIOBackbone',
    'SigLIPBackbone',
    'TIPSBackbone',
    'Talk2DINOBackbone',
    'build_encoder',
]
