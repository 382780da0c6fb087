"""Scale-invariant error of log depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmseg_siglip.models.losses.depth_validity import (
    check_shapes,
    masked_mean,
    mean_over_images,
    valid_depth,
)
from mmseg_siglip.registry import MODELS

SMALLEST = 1e-6


@MODELS.register_module()
class SILogDepthLoss(nn.Module):
    """scale * sqrt(E[g²] - λ E[g]²), g = log prediction - log truth, over the valid pixels.

    The same as scale * sqrt(var[g] + (1 - λ) E[g]²), and computed so, since that does not cancel.
    λ = 0.5 is Eigen's (https://arxiv.org/abs/1406.2283) and Depth Anything's, 0.85 with scale 10
    that of AdaBins (https://arxiv.org/abs/2011.14141). Always in float32.

    Args:
        variance_focus: λ, from 0, the root mean square of g, to 1, its standard deviation.
        scale: Factor.
        min_depth: Metres; truth at or below counts as missing.
        max_depth: Metres; truth above counts as missing.
        per_image: One root for each image, averaged; or one over all pixels of the batch.
        eps: Added inside the square root, whose gradient is infinite at 0.
        loss_weight: Factor.
        loss_name: Key of the result; only those that begin with ``loss`` are trained on.
    """

    def __init__(
        self,
        *,
        variance_focus: float = 0.5,
        scale: float = 1.0,
        min_depth: float = 1e-3,
        max_depth: float = float('inf'),
        per_image: bool = True,
        eps: float = 1e-8,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_silog',
    ) -> None:
        super().__init__()
        if not 0 <= variance_focus <= 1:
            raise ValueError(
                f'SILogDepthLoss.variance_focus: expected 0 to 1, found {variance_focus}'
            )
        self.variance_focus, self.factor = variance_focus, scale * loss_weight
        self.min_depth, self.max_depth = min_depth, max_depth
        self.per_image, self.eps, self.loss_name = per_image, eps, loss_name

    def forward(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """A scalar, 0 if no pixel is valid.

        Args:
            prediction: (B, H, W), metres.
            truth: (B, H, W), metres; 0, negative or not finite where there is none.
        """
        check_shapes(prediction, truth, 'SILogDepthLoss')
        with torch.autocast(prediction.device.type, enabled=False):
            prediction, truth = prediction.float(), truth.float()
            mask = valid_depth(truth, self.min_depth, self.max_depth)
            logs = torch.where(mask, truth, 1).clamp(min=SMALLEST).log()
            error = prediction.clamp(min=SMALLEST).log() - logs
            if not self.per_image:
                error, mask = error.flatten(0, 1)[None], mask.flatten(0, 1)[None]
            mean = masked_mean(error, mask)
            variance = masked_mean((error - mean[:, None, None]) ** 2, mask)
            squares = variance + (1 - self.variance_focus) * mean**2
            return self.factor * mean_over_images((squares + self.eps).sqrt(), mask)
