from mmseg_siglip.models.backbones.trunk import build_method
from mmseg_siglip.models.dense.clearclip import ClearCLIP
from mmseg_siglip.models.dense.clip_surgery import CLIPSurgery
from mmseg_siglip.models.dense.csa import CorrelativeSelfAttention
from mmseg_siglip.models.dense.gem import GEM
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.models.dense.naclip import NACLIP
from mmseg_siglip.models.dense.sc_clip import SCCLIP
from mmseg_siglip.models.dense.scga import SCGA
from mmseg_siglip.models.dense.scra import SCRA
from mmseg_siglip.models.dense.sfp import SFP
from mmseg_siglip.models.dense.value import MaskCLIP, Value, ValueCLS, ValueResidual
from mmseg_siglip.models.dense.vanilla import Vanilla

__all__ = [
    'GEM',
    'CLIPSurgery',
    'NACLIP',
    'SCCLIP',
    'SCGA',
    'SCRA',
    'SFP',
    'ClearCLIP',
    'CorrelativeSelfAttention',
    'DenseMethod',
    'MaskCLIP',
    'Value',
    'ValueCLS',
    'ValueResidual',
    'Vanilla',
    'build_method',
]
