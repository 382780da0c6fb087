"""Where the windows lie that slide over an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor


def window_starts(length: int, crop: int, stride: int) -> list[int]:
    """First pixel of each window along one side; the last window is shifted inwards.

    The windows are `crop` long, or as long as the side where that is shorter.
    """
    count = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(i * stride + crop, length) - crop, 0) for i in range(count)]


@dataclass(frozen=True)
class Windows:
    """The windows of one image.

    Attributes:
        rows, columns: First pixels.
        size: (height, width) of each, in pixels.
        whole: Whether the only one is the image in one piece.
    """

    rows: list[int]
    columns: list[int]
    size: tuple[int, int]
    whole: bool = False

    @classmethod
    def of(cls, size: tuple[int, int], config: Mapping) -> Windows:
        """Those of an image of `size` (H, W), by a checked `test_cfg`."""
        if config['mode'] == 'whole':
            return cls([0], [0], size, whole=True)
        crop = config['crop_size']
        starts = [window_starts(*side) for side in zip(size, crop, config['stride'], strict=True)]
        return cls(*starts, tuple(map(min, crop, size)))

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def boxes(self) -> list[tuple[int, int, int, int]]:
        """(top, left, height, width) of each, row by row."""
        return [(y, x, *self.size) for y in self.rows for x in self.columns]

    def crops(self, image: Tensor) -> Iterator[Tensor]:
        """(..., H, W) to one (..., height, width) a window, row by row."""
        for y, x, height, width in self.boxes:
            yield image[..., y : y + height, x : x + width]
