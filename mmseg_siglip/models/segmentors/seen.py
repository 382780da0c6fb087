"""What the windows of one image gave, on its way to labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

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
