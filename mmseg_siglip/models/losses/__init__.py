from mmseg_siglip.models.losses.scale_shift_loss import (
    GradientMatchingLoss,
    ScaleShiftInvariantLoss,
)
from mmseg_siglip.models.losses.sigmoid_loss import SigmoidLoss
from mmseg_siglip.models.losses.silog_loss import SILogDepthLoss

__all__ = [
    'GradientMatchingLoss',
    'SILogDepthLoss',
    'ScaleShiftInvariantLoss',
    'SigmoidLoss',
]
