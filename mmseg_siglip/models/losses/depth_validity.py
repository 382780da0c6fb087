"""Which pixels of a depth map count, and means over them that survive where none do.

Shapes: B images of (H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor


def valid_depth(truth: Tensor, min_depth: float, max_depth: float) -> Tensor:
    """(B, H, W) bool: finite, above `min_depth`, at most `max_depth`, all metres."""
    return torch.isfinite(truth) & (truth > min_depth) & (truth <= max_depth)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the pixels of each image, (B, H, W) to (B,); 0 where an image has none."""
    total = torch.where(mask, values, 0).sum((1, 2))
    return total / mask.sum((1, 2)).clamp(min=1)


def mean_over_images(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B,) values over the images with a valid pixel, 0 with a gradient if there is none.

    What is not finite in an image without a valid pixel does not get through.
    """
    some = mask.any(2).any(1)
    return torch.where(some, values, 0 * values).sum() / some.sum().clamp(min=1)


def check_shapes(prediction: Tensor, truth: Tensor, name: str) -> None:
    """Refuse maps that would be broadcast.

    Raises:
        ValueError: They are not both (B, H, W).
    """
    if prediction.shape != truth.shape or prediction.dim() != 3:
        raise ValueError(
            f'{name}: expected prediction and truth of one shape (B, H, W), '
            f'found {tuple(prediction.shape)} and {tuple(truth.shape)}'
        )


def inverse_depth(depth: Tensor, mask: Tensor) -> Tensor:
    """1 / depth where the mask holds, 0 elsewhere."""
    return torch.where(mask, 1 / torch.where(mask, depth, 1).clamp(min=1e-6), 0)
