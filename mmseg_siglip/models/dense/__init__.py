from mmseg_siglip.models.backbones.trunk import build_method
from mmseg_siglip.models.dense.clearclip import ClearCLIP
from mmseg_siglip.models.dense.corrclip import CorrCLIP
from mmseg_siglip.models.dense.csa import CorrelativeSelfAttention
from mmseg_siglip.models.dense.lposs import LPOSS
from mmseg_siglip.models.dense.mask_crop import MaskCrop
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.models.dense.naclip import NACLIP
from mmseg_siglip.models.dense.proxyclip import ProxyCLIP
from mmseg_siglip.models.dense.textregion import TextRegion
from mmseg_siglip.models.dense.value import MaskCLIP, Value, ValueCLS, ValueResidual
from mmseg_siglip.models.dense.vanilla import Vanilla

__all__ = [
    'LPOSS',
    'NACLIP',
    'ClearCLIP',
    'CorrCLIP',
    'CorrelativeSelfAttention',
    'DenseMethod',
    'MaskCLIP',
    'MaskCrop',
    'ProxyCLIP',
    'TextRegion',
    'Value',
    'ValueCLS',
    'ValueResidual',
    'Vanilla',
    'build_method',
]
