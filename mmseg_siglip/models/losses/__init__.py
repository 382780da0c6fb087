from mmseg_siglip.models.losses.dense_bce import DenseBCELoss
from mmseg_siglip.models.losses.mask_bce import MaskBCELoss
from mmseg_siglip.models.losses.mask_dice import MaskDiceLoss
from mmseg_siglip.models.losses.normal_angle_loss import NormalAngleLoss
from mmseg_siglip.models.losses.scale_shift_loss import (
    GradientMatchingLoss,
    ScaleShiftInvariantLoss,
)
from mmseg_siglip.models.losses.sigmoid_loss import SigmoidLoss
from mmseg_siglip.models.losses.silog_loss import SILogDepthLoss

__all__ = [
    'DenseBCELoss',
    'GradientMatchingLoss',
    'MaskBCELoss',
    'MaskDiceLoss',
    'NormalAngleLoss',
    'SILogDepthLoss',
    'ScaleShiftInvariantLoss',
    'SigmoidLoss',
]
