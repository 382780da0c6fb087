"""How the cells of windows become one map on the patch grid of the image that they lie in.

Every pixel of a window carries the value of the window's cell that it belongs to, and a cell of the
image takes the mean of what its pixels carry, over all windows. Where windows begin at multiples of
the patch that is the mean of the windows' cells at each place, as Trident
(https://arxiv.org/abs/2411.09219) and RADSeg (https://arxiv.org/abs/2511.19704) have it; elsewhere
cells are weighted by the area that they share, exactly.

Shapes: n windows of (h, w) cells, C channels; image grid (H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmseg_siglip.device import upload
from mmseg_siglip.kept import LastUsed
from mmseg_siglip.precision import autocast

KEPT = LastUsed(512)
"""What of a window's sides lies in which cells; windows of one place come again and again."""


def splice(
    maps: Tensor,
    boxes: Sequence[tuple[int, int, int, int]],
    patch: int,
    extent: tuple[int, int],
    *,
    grid: tuple[int, int] | None = None,
) -> Tensor:
    """One map of all windows.

    Args:
        maps: (n, C, h, w), cells of `patch` pixels from each window's top left. They may reach past
            a window that was padded; where they stop short of one, its border repeats.
        boxes: (top, left, height, width) of each window in the image, pixels.
        patch: Side of a cell, pixels.
        extent: Of the image, (height, width) in pixels.
        grid: (H, W) of the result; as many cells as cover the image if None. See `patch_grid`.

    Returns:
        (1, C, H, W), of the format of `maps`.
    """
    grid = grid or tuple(-(-side // patch) for side in extent)
    total = maps.new_zeros(maps.shape[1], *grid, dtype=torch.float32)
    area = total.new_zeros(grid)
    with autocast('fp32', maps.device):
        for cells, (top, left, height, width) in zip(maps.float(), boxes, strict=True):
            rows, down = _kept(top, height, cells.shape[-2], patch, grid[0], total.device)
            columns, across = _kept(left, width, cells.shape[-1], patch, grid[1], total.device)
            total[:, rows, columns] += down @ cells @ across.T
            area[rows, columns] += down.sum(1, keepdim=True) * across.sum(1)
    return (total / area.clamp(min=1e-12)).to(maps.dtype)[None]


def _kept(
    start: int, length: int, cells: int, patch: int, of: int, device: torch.device
) -> tuple[slice, Tensor]:
    """`shares`, on a device."""

    def make() -> tuple[slice, Tensor]:
        place, part = shares(start, length, cells, patch, of)
        return place, upload(part.float(), device)

    return KEPT((start, length, cells, patch, of, str(device)), make)


def shares(start: int, length: int, cells: int, patch: int, of: int) -> tuple[slice, Tensor]:
    """How much of a window's side lies in which cells of the image.

    Args:
        start, length: The window's first pixel and its pixels.
        cells: Of the window.
        patch: Side of a cell, pixels.
        of: Cells of the image; what lies beyond the last belongs to it.

    Returns:
        The image's cells that the window meets, k of them, and (k, cells) the pixels that two
        cells share, in units of `patch`.
    """
    place = torch.arange(length)
    own = (place // patch).clamp(max=cells - 1)
    wanted = ((place + start) // patch).clamp(max=of - 1)
    first, last = int(wanted[0]), int(wanted[-1])
    counts = torch.bincount((wanted - first) * cells + own, minlength=(last - first + 1) * cells)
    return slice(first, last + 1), counts.reshape(-1, cells) / patch
