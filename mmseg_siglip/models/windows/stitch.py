"""How the cells of sliding windows become pixels.

Upsampling a window, adding windows up, dividing by their count and resizing the sum are linear,
and each acts on rows and columns separately. So the whole way from cells to output pixels is
one matrix for rows and one for columns,

    pixels[q] = M_y @ cells[q] @ M_xᵀ,

and any part of the output can be computed without a canvas of the full size. A pixel depends on
the windows over it alone, so each part needs only the matrices' entries of those.

An image in one piece is enlarged to its output in one bilinear step, as SCLIP does.

Shapes: n_y x n_x windows of (h, w) cells, which are patches or parts of them; Q channels; output
(H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmseg_siglip.device import upload
from mmseg_siglip.kept import LastUsed
from mmseg_siglip.models.backbones.planes import Planes
from mmseg_siglip.models.windows.grid import Windows

BLOCK = 256
KEPT = LastUsed(128)
"""Matrices of sides that come again and again in a data set."""
Cells = Tensor | Sequence[Sequence[Planes]]
"""Of all windows of an image: (n_y, n_x, Q, h, w), or `Planes`, n_y rows of n_x."""


def resize_matrix(out: int, size: int, *, shown: tuple[int, int] = (1, 1)) -> Tensor:
    """Bilinear resize of one side (align_corners=False): (out, size) float64, rows sum to 1.

    The output shows the part `shown` of the input, a numerator and a denominator, from its start.
    Beyond the input, its border repeats.
    """
    part, of = shown
    place = torch.arange(out, dtype=torch.float64) + 0.5
    source = (place * (size * part) / (out * of) - 0.5).clamp(min=0)
    low = source.long().clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    weight = (source - low).unsqueeze(1)
    matrix = torch.zeros(out, size, dtype=torch.float64)
    matrix.scatter_add_(1, low.unsqueeze(1), 1 - weight)
    matrix.scatter_add_(1, high.unsqueeze(1), weight)
    return matrix


def upsample_matrix(length: int, cells: int, span: int) -> Tensor:
    """From cells to the pixels of one window side: (length, cells) float64.

    The cells span `span` pixels. If the window is shorter (it was padded) the rest is cut off; if
    it is longer (pixels were left out) its border repeats the last pixel that they span.
    """
    spanned = resize_matrix(span, cells)
    return spanned[torch.arange(length).clamp(max=span - 1)]


def stitch_matrix(starts: Sequence[int], crop: int, length: int, upsample: Tensor, out: int):
    """One side of the way from all windows' cells to output pixels.

    Args:
        starts: First pixel of each of n windows.
        crop: Pixels of a window.
        length: Pixels of the image that the windows lie in.
        upsample: (crop, cells), from `upsample_matrix`.
        out: Pixels of the output.

    Returns:
        (out, n * cells) float32: the mean over the windows at each pixel, resized.
    """
    cells = upsample.shape[1]
    canvas = torch.zeros(length, len(starts) * cells, dtype=torch.float64)
    count = torch.zeros(length, 1, dtype=torch.float64)
    for i, start in enumerate(starts):
        canvas[start : start + crop, i * cells : (i + 1) * cells] = upsample
        count[start : start + crop] += 1
    return (resize_matrix(out, length) @ (canvas / count)).float()


@dataclass(frozen=True)
class Side:
    """The matrix of one side, and what the host knows of it.

    Attributes:
        matrix: (out, cells).
        used: (out, cells) bool, where it is not zero.
    """

    matrix: Tensor
    used: np.ndarray

    @classmethod
    def of(cls, matrix: Tensor, device: torch.device, dtype: torch.dtype = torch.float32) -> Side:
        """Of a matrix on the CPU, moved to a device."""
        matrix = matrix.to(dtype)
        return cls(upload(matrix, device), (matrix != 0).numpy())

    def support(self, rows: slice, cells: slice = slice(None)) -> slice | None:
        """The cells, counted from the first of `cells`, from the first to the last that some of
        `rows` depends on; None if there is none."""
        (places,) = np.nonzero(self.used[rows, cells].any(axis=0))
        return slice(int(places[0]), int(places[-1]) + 1) if len(places) else None


@dataclass(frozen=True)
class Stitch:
    """Pixels of the output, computed on demand.

    Attributes:
        planes: (Q, n_y * h, n_x * w) cells of all windows, one plane a channel; or n_y rows of n_x
            windows whose cells are made on demand, too.
        rows_side: M_y, (H, n_y * h).
        columns_side: M_x, (W, n_x * w).
    """

    planes: Tensor | Sequence[Sequence[Planes]]
    rows_side: Side
    columns_side: Side

    @property
    def down(self) -> Tensor:
        """M_y."""
        return self.rows_side.matrix

    @property
    def across(self) -> Tensor:
        """M_x."""
        return self.columns_side.matrix

    @classmethod
    def of(cls, windows: Tensor, down: Side, across: Side) -> Stitch:
        """From windows (n_y, n_x, Q, h, w) and both sides."""
        planes = windows.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
        return cls(planes, down, across)

    @classmethod
    def over(
        cls, cells: Cells, windows: Windows, span: tuple[int, int], size: tuple[int, int]
    ) -> Stitch:
        """An output of `size` (H, W).

        Args:
            cells: See `Cells`.
            windows: Where they lie.
            span: Pixels, from a window's top left, that its (h, w) cells span. They reach past a
                window that was padded, and the output shows what lies inside; they stop short of
                one whose last pixels were left out, and their border repeats.
            size: Of the output.
        """
        if isinstance(cells, Tensor):
            like, grid = cells, tuple(cells.shape[3:])
        else:
            like, grid = cells[0][0].rows(0, 1), cells[0][0].size
        lengths = zip((windows.rows, windows.columns), windows.size, grid, span, size, strict=True)
        sides = [_side(*side, windows.whole, like) for side in lengths]
        return cls.of(cells, *sides) if isinstance(cells, Tensor) else cls(cells, *sides)

    def rows(self, first: int, last: int) -> Tensor:
        """Output rows `first` to `last`: (Q, last - first, W)."""
        lines = self._lines(slice(first, last))
        pixels = lines.new_empty(*lines.shape[:2], len(self.across))
        for start in range(0, len(self.across), BLOCK):
            block = slice(start, start + BLOCK)
            cells = self.columns_side.support(block)
            pixels[..., block] = lines[..., cells] @ self.across[block, cells].T
        return pixels

    def _lines(self, rows: slice) -> Tensor:
        """Rows of the output by cells of columns, (Q, rows, n_x * w)."""
        down, side = self.down[rows], self.rows_side
        if isinstance(self.planes, Tensor):
            cells = side.support(rows)
            return down[:, cells] @ self.planes[:, cells]
        parts, count = [], down.shape[1] // len(self.planes)
        for index, windows in enumerate(self.planes):
            own = slice(index * count, (index + 1) * count)
            cells = side.support(rows, own)
            if cells is not None:
                found = [planes.rows(cells.start, cells.stop) for planes in windows]
                parts.append(down[:, own][:, cells] @ torch.cat(found, dim=2))
        return sum(parts[1:], parts[0])


def enlarged(cells: Tensor, size: tuple[int, int]) -> Stitch:
    """Cells (Q, h, w) bilinearly at `size`."""
    whole = Windows([0], [0], tuple(cells.shape[1:]), whole=True)
    return Stitch.over(cells[None, None], whole, tuple(cells.shape[1:]), size)


def resize_side(out: int, cells: int, shown: tuple[int, int], like: Tensor) -> Side:
    """`resize_matrix` on the device of `like` and in its type, made once for the same numbers."""
    return _side([0], shown[0], cells, shown[1], out, True, like)


def _side(
    starts: Sequence[int], crop: int, cells: int, span: int, out: int, whole: bool, like: Tensor
) -> Side:
    """One side of `Stitch.over`, made once for the same numbers."""

    def make() -> Side:
        if whole:
            matrix = resize_matrix(out, cells, shown=(crop, span))
        else:
            upsample = upsample_matrix(crop, cells, span)
            matrix = stitch_matrix(starts, crop, starts[-1] + crop, upsample, out)
        return Side.of(matrix.float(), like.device, like.dtype)

    key = (tuple(starts), crop, cells, span, out, whole, str(like.device), like.dtype)
    return KEPT(key, make)
