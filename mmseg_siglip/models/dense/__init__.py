from mmseg_siglip.models.backbones.trunk import build_method
from mmseg_siglip.models.dense.clearclip import ClearCLIP
from mmseg_siglip.models.dense.csa import CorrelativeSelfAttention
from mmseg_siglip.models.dense.gla_clip import GLACLIP
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.models.dense.naclip import NACLIP
from mmseg_siglip.models.dense.proxyclip import ProxyCLIP
from mmseg_siglip.models.dense.stitched import Stitched
from mmseg_siglip.models.dense.trident import Trident
from mmseg_siglip.models.dense.value import MaskCLIP, Value, ValueCLS, ValueResidual
from mmseg_siglip.models.dense.vanilla import Vanilla

__all__ = [
    'GLACLIP',
    'NACLIP',
    'ClearCLIP',
    'CorrelativeSelfAttention',
    'DenseMethod',
    'MaskCLIP',
    'ProxyCLIP',
    'Stitched',
    'Trident',
    'Value',
    'ValueCLS',
    'ValueResidual',
    'Vanilla',
    'build_method',
]
