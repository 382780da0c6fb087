"""What the windows of one image gave, on its way to labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn.functional import normalize

from mmseg_siglip.models.backbones.planes import whole
from mmseg_siglip.models.backbones.trunk import NO_REGIONS
from mmseg_siglip.models.finite import of_image
from mmseg_siglip.models.regions import resize_regions
from mmseg_siglip.models.windows.grid import Windows
from mmseg_siglip.models.windows.stitch import Cells


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
        cosines: (n_y, n_x, Q, h, w), or `Planes` of that order.
        features: (n_y, n_x, D, h, w), or none of them (n_y, n_x, 0, h, w); None of `Planes`.
        regions: The image's.
    """

    image: Tensor
    windows: Windows
    cosines: Cells
    features: Tensor | None
    regions: RegionsOfImage

    @classmethod
    def of(
        cls, image: Tensor, windows: Windows, cells: Cells, regions: RegionsOfImage, *, words: int
    ) -> Seen:
        """From cells (n_y, n_x, Q + D, h, w) of Q `words`, or `Planes` of (n_y, n_x)."""
        if not isinstance(cells, Tensor):
            return cls(image, windows, cells, None, regions)
        return cls(image, windows, cells[:, :, :words], cells[:, :, words:], regions)

    @property
    def first(self) -> Tensor:
        """What words get at the cells of the first window, (Q, h, w)."""
        cells = self.cosines
        return cells[0, 0] if isinstance(cells, Tensor) else whole(cells[0][:1])[0]

    @property
    def finite(self) -> Tensor | bool:
        """Whether no cosine is NaN; True of `Planes`, whose rows are judged as they are made."""
        return ~self.cosines.isnan().any() if isinstance(self.cosines, Tensor) else True

    @property
    def size(self) -> tuple[int, int]:
        return tuple(self.image.shape[-2:])


def find_regions(
    image: Tensor, sample: SegDataSample | None, search: Callable[[Tensor], Tensor] | None
) -> Tensor:
    """Regions of an image (3, H, W): those that its sample brings along, or what `search` finds.

    Raises:
        ValueError: There is neither, or what `search` goes by is no number.
    """
    if sample is None or 'regions' not in sample:
        if search is None:
            raise ValueError(NO_REGIONS)
        with of_image(sample):
            return search(image)
    held = sample.regions.data.to(image.device)
    return held if held.dtype == torch.bool else held[0]


def meet_words(
    rows: Iterable[Tensor], text: Tensor, *, normalise: bool, keep: bool
) -> tuple[Tensor, Tensor | None]:
    """Features and words.

    Args:
        rows: Of features (n, D, h, w), some at a time.
        text: (Q, D), unit length.
        normalise: Whether features are brought to unit length, which makes cosines of products.
        keep: Whether the features are asked for, too.

    Returns:
        Cosines (n, Q, h, w), and features (n, D, h, w) or None.
    """
    cosines, features = [], []
    for part in rows:
        unit = normalize(part, dim=1) if normalise else part
        cosines.append(torch.einsum('bdhw,qd->bqhw', unit, text))
        if keep:
            features.append(part)
    return torch.cat(cosines, dim=2), torch.cat(features, dim=2) if keep else None
