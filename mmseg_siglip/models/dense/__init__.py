from mmseg_siglip.models.backbones.trunk import build_method
from mmseg_siglip.models.dense.clearclip import ClearCLIP
from mmseg_siglip.models.dense.clip_surgery import CLIPSurgery
from mmseg_siglip.models.dense.cliptrase import CLIPtrase
from mmseg_siglip.models.dense.corrclip import CorrCLIP
from mmseg_siglip.models.dense.csa import CorrelativeSelfAttention
from mmseg_siglip.models.dense.gem import GEM
from mmseg_siglip.models.dense.gla_clip import GLACLIP
from mmseg_siglip.models.dense.itaclip import ITACLIP
from mmseg_siglip.models.dense.lposs import LPOSS, LPOSSPlus
from mmseg_siglip.models.dense.mask_crop import MaskCrop
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.models.dense.naclip import NACLIP
from mmseg_siglip.models.dense.proxyclip import ProxyCLIP
from mmseg_siglip.models.dense.resclip import ResCLIP
from mmseg_siglip.models.dense.sc_clip import SCCLIP
from mmseg_siglip.models.dense.scga import SCGA
from mmseg_siglip.models.dense.scra import SCRA
from mmseg_siglip.models.dense.sfp import SFP
from mmseg_siglip.models.dense.stitched import Stitched
from mmseg_siglip.models.dense.textregion import TextRegion
from mmseg_siglip.models.dense.trident import Trident
from mmseg_siglip.models.dense.value import MaskCLIP, Value, ValueCLS, ValueResidual
from mmseg_siglip.models.dense.vanilla import Vanilla

__all__ = [
    'CLIPSurgery',
    'CLIPtrase',
    'ClearCLIP',
    'CorrCLIP',
    'CorrelativeSelfAttention',
    'DenseMethod',
    'GEM',
    'GLACLIP',
    'ITACLIP',
    'LPOSS',
    'LPOSSPlus',
    'MaskCLIP',
    'MaskCrop',
    'NACLIP',
    'ProxyCLIP',
    'ResCLIP',
    'SCCLIP',
    'SCGA',
    'SCRA',
    'SFP',
    'Stitched',
    'TextRegion',
    'Trident',
    'Value',
    'ValueCLS',
    'ValueResidual',
    'Vanilla',
    'build_method',
]
