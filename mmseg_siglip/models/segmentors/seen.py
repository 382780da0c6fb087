"""What the windows of one image gave, on its way to labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from mmseg_siglip.models.regions import resize_regions
from mmseg_siglip.models.windows.grid import Windows


@dataclass(frozen=True)
class RegionsOfImage:
    """The regions of one image, found when they are asked for, once.

    Attributes:
        find: Finds them, see `Trunk.regions`.
    """

    find: Callable[[], Tensor]

    @cached_property
    def found(self) -> Tensor:
        return self.find()

    def at(self, size: tuple[int, int]) -> Tensor:
        """At a size (H, W)."""
        return resize_regions(self.found, size)


@dataclass(frozen=True)
class Seen:
    """What an image's windows gave.

    Attributes:
        image: (3, H, W), normalised.
        windows: Where they lie.
        cosines: (n_y, n_x, Q, h, w).
        features: (n_y, n_x, D, h, w), or none of them (n_y, n_x, 0, h, w).
        regions: The image's.
    """

    image: Tensor
    windows: Windows
    cosines: Tensor
    features: Tensor
    regions: RegionsOfImage

    @property
    def size(self) -> tuple[int, int]:
        return tuple(self.image.shape[-2:])
