"""Binary cross-entropy of every class at every pixel.

Shapes: B images, T classes, (H, W) pixels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import softplus

from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class DenseBCELoss(nn.Module):
    """Is this class here? asked of each class at each pixel; the mean of the answers' losses.

    softplus(z) - z for the class that is there and softplus(z) for the others, which needs no
    one-hot labels.

    Args:
        ignore_as_negative: What a pixel labelled `ignore_index` means. True, as CAT-Seg's code
            has it: none of the classes is there, and it counts. False: it does not count.
        ignore_index: That label.
        loss_weight: Factor on the result.
    """

    def __init__(
        self,
        *,
        ignore_as_negative: bool = True,
        ignore_index: int = 255,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.ignore_as_negative = ignore_as_negative
        self.ignore_index, self.loss_weight = ignore_index, loss_weight

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            logits: (B, T, H, W).
            labels: (B, H, W) int64, a class or `ignore_index`.

        Raises:
            ValueError: Sizes do not agree, a label is neither, or `ignore_index` is a class.
        """
        classes = logits.shape[1]
        if 0 <= self.ignore_index < classes:
            raise ValueError(
                f'DenseBCELoss: ignore_index={self.ignore_index} is one of the {classes} classes, '
                'which would not be learnt; set it to 65535 here, in dataset, pipeline and metric, '
                'and data_preprocessor.seg_pad_val as well'
            )
        if logits.shape[2:] != labels.shape[1:] or len(logits) != len(labels):
            raise ValueError(
                f'DenseBCELoss: expected labels {(len(logits), *logits.shape[2:])}, '
                f'found {tuple(labels.shape)}'
            )
        counted = labels != self.ignore_index
        strange = labels[counted & ((labels < 0) | (labels >= classes))]
        if strange.numel():
            raise ValueError(
                f'DenseBCELoss: found label {int(strange[0])} in the masks, expected a class from '
                f'0 to {classes - 1} or ignore_index={self.ignore_index}; are they converted?'
            )
        chosen = logits.gather(1, labels.where(counted, 0)[:, None])[:, 0]
        positives = (chosen * counted).sum()
        everywhere = softplus(logits)
        if self.ignore_as_negative:
            return self.loss_weight * (everywhere.sum() - positives) / logits.numel()
        total = (everywhere * counted[:, None]).sum() - positives
        return self.loss_weight * total / (counted.sum() * classes).clamp(min=1)
