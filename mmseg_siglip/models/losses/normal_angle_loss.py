"""The angle between predicted and true surface normals."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmseg_siglip.models.losses.depth_validity import masked_mean, mean_over_images
from mmseg_siglip.registry import MODELS

SMALLEST = 1e-12


@MODELS.register_module()
class NormalAngleLoss(nn.Module):
    """Mean angle, radians, over the pixels whose normal is known. Always in float32.

    It is computed as twice the arc tangent of |p - t| / |p + t|, whose gradient is finite
    everywhere, as the arc cosine's is not.

    Args:
        loss_weight: Factor.
        loss_name: Key of the result; only those that begin with ``loss`` are trained on.
    """

    def __init__(self, *, loss_weight: float = 1.0, loss_name: str = 'loss_angle') -> None:
        super().__init__()
        self.loss_weight, self.loss_name = loss_weight, loss_name

    def forward(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """A scalar, 0 if no pixel is known.

        Args:
            prediction: (B, 3, H, W), of length 1.
            truth: (B, 3, H, W), of length 1; zeros or not finite where there is none.

        Raises:
            ValueError: They are no such maps.
        """
        if prediction.shape != truth.shape or prediction.dim() != 4 or prediction.shape[1] != 3:
            raise ValueError(
                'NormalAngleLoss: expected prediction and truth of one shape (B, 3, H, W), '
                f'found {tuple(prediction.shape)} and {tuple(truth.shape)}'
            )
        with torch.autocast(prediction.device.type, enabled=False):
            prediction, truth = prediction.float(), truth.float()
            known = torch.isfinite(truth).all(1) & (truth.abs().sum(1) > 0)
            truth = torch.where(known[:, None], truth, 0)
            apart, along = (
                (x.square().sum(1) + SMALLEST).sqrt()
                for x in (prediction - truth, prediction + truth)
            )
            angle = 2 * torch.atan2(apart, along)
            return self.loss_weight * mean_over_images(masked_mean(angle, known), known)
