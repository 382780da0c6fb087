from mmseg_siglip.models.backbones.trunk import build_method
from mmseg_siglip.models.dense.clearclip import ClearCLIP
from mmseg_siglip.models.dense.cliptrase import CLIPtrase
from mmseg_siglip.models.dense.csa import CorrelativeSelfAttention
from mmseg_siglip.models.dense.itaclip import ITACLIP
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.models.dense.naclip import NACLIP
from mmseg_siglip.models.dense.resclip import ResCLIP
from mmseg_siglip.models.dense.value import MaskCLIP, Value, ValueCLS, ValueResidual
from mmseg_siglip.models.dense.vanilla import Vanilla

__all__ = [
    'ITACLIP',
    'NACLIP',
    'CLIPtrase',
    'ClearCLIP',
    'CorrelativeSelfAttention',
    'DenseMethod',
    'MaskCLIP',
    'ResCLIP',
    'Value',
    'ValueCLS',
    'ValueResidual',
    'Vanilla',
    'build_method',
]
