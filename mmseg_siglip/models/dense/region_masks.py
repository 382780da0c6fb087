"""Regions as masks over an image in one piece, and scores of regions as scores of pixels.

Shapes: an image (H, W), R regions, Q words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmseg_siglip.device import at_once
from mmseg_siglip.models.backbones.block import CHUNK_BYTES
from mmseg_siglip.models.backbones.planes import Planes
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.spans import spanned
from mmseg_siglip.models.windows.stitch import enlarged
from mmseg_siglip.precision import autocast

EVERY = slice(None)


def whole_image(trunk: Trunk, name: str) -> None:
    """Refuse a batch, for a method that looks at the image in its own way.

    Raises:
        ValueError: There are several.
    """
    if len(trunk.images) != 1:
        raise ValueError(
            f'{name!r} cuts the image itself: expected one image, found {len(trunk.images)}'
        )


@dataclass(frozen=True)
class RegionMasks:
    """R masks over an image.

    Attributes:
        held: (R, H, W) bool, or where none overlap (H, W) int64.
        names: (R,), what each is called in a map.
    """

    held: Tensor
    names: Tensor | None = None

    @classmethod
    def of(cls, trunk: Trunk) -> RegionMasks:
        """The regions of the one image, over what the encoder's grid spans."""
        (regions,) = trunk.regions
        held = spanned(regions, trunk.grid, trunk.encoder.patch_size)
        if regions.ndim == 3:
            return cls(held)
        names = held.unique()
        return cls(held, names[names > 0])

    def __len__(self) -> int:
        return len(self.held if self.names is None else self.names)

    def __getitem__(self, regions: Tensor | slice) -> RegionMasks:
        """Some of the regions."""
        if self.names is None:
            return replace(self, held=self.held[regions])
        return replace(self, names=self.names[regions])

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return tuple(self.held.shape[-2:])

    def rows(self, rows: slice = EVERY, columns: slice = EVERY) -> Tensor:
        """(R, h, w) bool, of a part of the image."""
        held = self.held[..., rows, columns]
        return held if self.names is None else held == self.names[:, None, None]

    def parts(self, pixel_bytes: int = 1) -> Iterator[Tensor]:
        """All masks, some at a time, (r, H, W) bool, of which something with so many bytes a pixel
        is to be made."""
        step = at_once(pixel_bytes * self.size[0] * self.size[1], self.held.device, CHUNK_BYTES)
        for first in range(0, len(self), step):
            yield self[first : first + step].rows()


def paint(scores: Tensor, masks: RegionMasks, fill: Tensor | None, *, add: bool = False) -> Planes:
    """Scores of pixels, (Q, H, W).

    Args:
        scores: (R, Q) of regions.
        masks: Those regions.
        fill: (Q, h, w) for pixels in no region, brought to their size bilinearly; 0 if None.
        add: Sum the scores of regions that overlap; else their mean.
    """
    height, width = masks.size
    dense = None if fill is None else enlarged(fill.float(), masks.size)

    def rows(first: int, last: int) -> Tensor:
        total = scores.new_zeros(scores.shape[1], last - first, width, dtype=torch.float32)
        step = at_once(4 * len(masks) * width, scores.device, CHUNK_BYTES)
        for start in range(first, last, step):
            end = min(start + step, last)
            inside = masks.rows(slice(start, end))
            part = inside.flatten(1).float()
            count = 1 if add else part.sum(0).clamp(min=1)
            with autocast('fp32', part.device):
                painted = (scores.T.float() @ part / count).unflatten(1, (end - start, width))
                if dense is not None:
                    painted = torch.where(inside.any(0), painted, dense.rows(start, end))
            total[:, start - first : end - first] = painted
        return total

    return Planes((height, width), rows)


def mask_boxes(masks: Tensor) -> Tensor:
    """First row, row behind the last, and the same of columns, of masks (R, H, W) that are not
    empty, (R, 4) int64."""
    ends = []
    for axis in (2, 1):
        inside = masks.any(axis).byte()
        ends += [inside.argmax(1), inside.shape[1] - inside.flip(1).argmax(1)]
    return torch.stack(ends, dim=1)
