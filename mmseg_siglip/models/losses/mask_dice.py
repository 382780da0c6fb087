"""Dice loss of masks, one answer a phrase. https://arxiv.org/abs/1606.04797

Shapes: P phrases, (H, W) pixels.
"""

from __future__ import annotations

from torch import Tensor, nn

from mmseg_siglip.models.losses.mask_answers import check_third
from mmseg_siglip.registry import MODELS

EPSILON = 1e-3  # beside each of the two sums of squares


@MODELS.register_module()
class MaskDiceLoss(nn.Module):
    """1 - (2 sum(p y) + 1) / (sum(p) + sum(y) + 1) over each phrase's counted pixels.

    MMSeg's `DiceLoss` takes its `ignore_index` for a class, not for a label of pixels.

    Args:
        squared: 1 - 2 sum(p y) / (sum(p^2) + sum(y^2) + 0.002) instead, which is MMSeg's.
        ignore_index: Label of pixels that do not count.
        loss_weight: Factor on the result.

    Raises:
        ValueError: `ignore_index` is 0 or 1, which are what the masks say.
    """

    def __init__(
        self, *, squared: bool = False, ignore_index: int = 255, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        check_third(ignore_index, type(self).__name__)
        self.squared = squared
        self.ignore_index, self.loss_weight = ignore_index, loss_weight

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Losses (P,).

        Args:
            logits: (P, H, W).
            masks: (P, H, W): 0, 1 or `ignore_index`.
        """
        counted = (masks != self.ignore_index).flatten(1)
        p = logits.float().sigmoid().flatten(1) * counted
        y = (masks == 1).flatten(1)
        if self.squared:
            overlap = 2 * (p * y).sum(1) / (p.square().sum(1) + y.sum(1) + 2 * EPSILON)
            return self.loss_weight * (1 - overlap)
        return self.loss_weight * (1 - (2 * (p * y).sum(1) + 1) / (p.sum(1) + y.sum(1) + 1))
