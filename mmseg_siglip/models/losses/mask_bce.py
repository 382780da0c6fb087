"""Binary cross-entropy of masks, one answer a phrase.

Shapes: P phrases, (H, W) pixels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mmseg_siglip.models.losses.mask_answers import check_third
from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class MaskBCELoss(nn.Module):
    """Mean over each phrase's counted pixels; a phrase without any has no loss.

    MMSeg's `CrossEntropyLoss` divides by ignored pixels too, or else by those of the whole batch,
    so that images of different sizes weigh differently; and it fails where all are ignored.

    Args:
        ignore_index: Label of pixels that do not count.
        loss_weight: Factor on the result.

    Raises:
        ValueError: `ignore_index` is 0 or 1, which are what the masks say.
    """

    def __init__(self, *, ignore_index: int = 255, loss_weight: float = 1.0) -> None:
        super().__init__()
        check_third(ignore_index, type(self).__name__)
        self.ignore_index, self.loss_weight = ignore_index, loss_weight

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Losses (P,).

        Args:
            logits: (P, H, W).
            masks: (P, H, W): 0, 1 or `ignore_index`.
        """
        counted = masks != self.ignore_index
        losses = binary_cross_entropy_with_logits(
            logits, (masks == 1).to(logits.dtype), reduction='none'
        )
        total = (losses * counted).flatten(1).sum(1)
        return self.loss_weight * total / counted.flatten(1).sum(1).clamp(min=1)
