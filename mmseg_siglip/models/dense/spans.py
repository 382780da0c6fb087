"""What a grid of patches spans of a picture, and places beyond the ends of a side.

Shapes: grid (h, w) of patches of p x p pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from mmseg_siglip.models.backbones.trunk import Trunk


def spanned(planes: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """Planes (..., H, W) of any type as a grid of patches sees them: filled up with 0, or cut off,
    to (..., h*p, w*p)."""
    down, right = (n * patch - side for n, side in zip(grid, planes.shape[-2:], strict=True))
    return pad(planes, (0, right, 0, down))


def spanned_pixels(trunk: Trunk) -> Tensor:
    """RGB in [0, 1] of what the encoder's grid spans (B, 3, h*p, w*p): the pixels that it leaves
    out are gone, and those that it adds have its mean colour."""
    return trunk.encoder.to_pixels(spanned(trunk.images, trunk.grid, trunk.encoder.patch_size))


def mirrored(side: int, reach: int, device: torch.device, *, twice: bool = False) -> Tensor:
    """Places -reach to side + reach - 1 of a side that is mirrored at its first and last one, which
    themselves come `twice`, or once."""
    last = side - 1
    period = max(2 * side if twice else 2 * last, 1)
    place = torch.arange(-reach, side + reach, device=device) % period
    back = 2 * last + 1 - place if twice else period - place
    return torch.minimum(place, back) if side > 1 or twice else torch.zeros_like(place)
