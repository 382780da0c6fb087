"""Sliding windows: where they lie, and how their patch logits become pixels.

Upsampling a window, adding windows up, dividing by their count and resizing the sum are linear,
and each acts on rows and columns separately. So the whole way from patches to output pixels is
one matrix for rows and one for columns,

    pixels[q] = M_y @ patches[q] @ M_xᵀ,

and any part of the output can be computed without a canvas of the full size. A pixel depends on
the windows over it alone, so each part needs only the matrices' entries of those.

Shapes: windows n_y x n_x of patches (h, w); Q channels; output (H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 256


def window_starts(length: int, crop: int, stride: int) -> list[int]:
    """First pixel of each window along one side; the last window is shifted inwards.

    The windows are `crop` long, or as long as the side where that is shorter.
    """
    count = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(i * stride + crop, length) - crop, 0) for i in range(count)]


def resize_matrix(out: int, size: int) -> Tensor:
    """Bilinear resize of one side (align_corners=False): (out, size) float64, rows sum to 1."""
    source = ((torch.arange(out, dtype=torch.float64) + 0.5) * size / out - 0.5).clamp(min=0)
    low = source.long().clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    weight = (source - low).unsqueeze(1)
    matrix = torch.zeros(out, size, dtype=torch.float64)
    matrix.scatter_add_(1, low.unsqueeze(1), 1 - weight)
    matrix.scatter_add_(1, high.unsqueeze(1), weight)
    return matrix


def upsample_matrix(length: int, cells: int, patch: int) -> Tensor:
    """From patches to the pixels of one window side: (length, cells) float64.

    The patches cover ``cells * patch`` pixels. If the window is shorter (it was padded) the rest
    is cut off; if it is longer (pixels were left out) its border repeats the last covered pixel.
    """
    covered = resize_matrix(cells * patch, cells)
    return covered[torch.arange(length).clamp(max=len(covered) - 1)]


def stitch_matrix(starts: Sequence[int], crop: int, length: int, upsample: Tensor, out: int):
    """One side of the way from all windows' patches to output pixels.

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
class Stitch:
    """Pixels of the output, computed on demand.

    Attributes:
        planes: (Q, n_y * h, n_x * w) patches of all windows, one plane a channel.
        down: (H, n_y * h), M_y.
        across: (W, n_x * w), M_x.
    """

    planes: Tensor
    down: Tensor
    across: Tensor

    @classmethod
    def of(cls, windows: Tensor, down: Tensor, across: Tensor) -> Stitch:
        """From windows (n_y, n_x, Q, h, w) and the matrices of both sides."""
        planes = windows.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
        return cls(planes, down.to(planes), across.to(planes))

    def rows(self, first: int, last: int) -> Tensor:
        """Output rows `first` to `last`: (Q, last - first, W)."""
        down = self.down[first:last]
        cells = _support(down)
        lines = down[:, cells] @ self.planes[:, cells]
        pixels = lines.new_empty(*lines.shape[:2], len(self.across))
        for start in range(0, len(self.across), BLOCK):
            across = self.across[start : start + BLOCK]
            cells = _support(across)
            pixels[..., start : start + BLOCK] = lines[..., cells] @ across[:, cells].T
        return pixels


def _support(matrix: Tensor) -> slice:
    """The columns of `matrix` from the first to the last that is not zero."""
    used = matrix.any(dim=0).nonzero()
    return slice(int(used[0]), int(used[-1]) + 1)
