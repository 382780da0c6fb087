"""Regions at another size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def resize_regions(regions: Tensor, size: tuple[int, int]) -> Tensor:
    """Regions (..., H, W) of any type at a size, by the nearest pixel as torch counts it."""
    if tuple(regions.shape[-2:]) == tuple(size):
        return regions
    rows, columns = (
        interpolate(
            torch.arange(side, dtype=torch.float32, device=regions.device)[None, None],
            size=wanted,
            mode='nearest',
        )[0, 0].long()
        for side, wanted in zip(regions.shape[-2:], size, strict=True)
    )
    return regions[..., rows[:, None], columns]
