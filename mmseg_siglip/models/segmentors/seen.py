"""What the windows of one image gave, on its way to labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.models.windows.grid import Windows


@dataclass(frozen=True)
class Seen:
    """What an image's windows gave.

    Attributes:
        image: (3, H, W), normalised.
        windows: Where they lie.
        cosines: (n_y, n_x, Q, h, w).
        features: (n_y, n_x, D, h, w), or none of them (n_y, n_x, 0, h, w).
        regions: Gives the image's, see `Trunk.regions`.
    """

    image: Tensor
    windows: Windows
    cosines: Tensor
    features: Tensor
    regions: Callable[[], Tensor]

    @property
    def size(self) -> tuple[int, int]:
        return tuple(self.image.shape[-2:])


def resize_regions(regions: Tensor, like: Tensor | tuple[int, int]) -> Tensor:
    """Regions (H, W) or (M, H, W) at a size, or that of an image, by the nearest pixel."""
    size = tuple(like.shape[-2:]) if isinstance(like, Tensor) else like
    if tuple(regions.shape[-2:]) == size:
        return regions
    planes = regions.reshape(1, -1, *regions.shape[-2:]).double()
    resized = interpolate(planes, size=size, mode='nearest')[0].to(regions.dtype)
    return resized.reshape(*regions.shape[:-2], *size)
