"""Numbers that sum up a depth map under each patch of a vision-language model's grid.

Shapes: B maps (H, W); grid (gh, gw), N = gh * gw patches in row-major order; K statistics;
(a, b) pixels of the largest patch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

SPACES = {'depth': 'm', 'log': 'log m', 'inverse': '1/m'}


@dataclass(frozen=True)
class PatchStatistics:
    """Statistics of every patch of B maps.

    Attributes:
        values: (B, N, K) float32, contiguous; a patch without a valid pixel has the fill value
            everywhere but in ``valid_fraction``.
        names: The K statistics.
        grid: (gh, gw).
        space: What they are of: ``depth``, ``log`` or ``inverse``.
    """

    values: Tensor
    names: tuple[str, ...]
    grid: tuple[int, int]
    space: str

    @property
    def unit(self) -> str:
        """Of all but ``var`` (its square), ``grad`` (per pixel) and ``valid_fraction`` (none)."""
        return SPACES[self.space]


@dataclass(frozen=True)
class _Cells:
    """Pixels by patch: values and whether they count, (B, N, a, b), 0 where they do not."""

    x: Tensor
    valid: Tensor

    @property
    def count(self) -> Tensor:
        return self.valid.sum((2, 3))

    @property
    def flat(self) -> Tensor:
        return self.x.flatten(2)


def _mean(cells: _Cells) -> Tensor:
    return cells.x.sum((2, 3)) / cells.count


def _var(cells: _Cells) -> Tensor:
    off = torch.where(cells.valid, cells.x - _mean(cells)[:, :, None, None], 0)
    return (off**2).sum((2, 3)) / cells.count


def _extreme(cells: _Cells, outside: float) -> Tensor:
    return torch.where(cells.valid, cells.x, outside).flatten(2)


def _min(cells: _Cells) -> Tensor:
    return _extreme(cells, float('inf')).amin(2)


def _max(cells: _Cells) -> Tensor:
    return _extreme(cells, -float('inf')).amax(2)


def _median(cells: _Cells) -> Tensor:
    """The middle value, or the mean of the two middle ones."""
    ordered, _ = _extreme(cells, float('inf')).sort(2)
    last = (cells.count - 1).clamp(min=0)
    middle = torch.stack([last // 2, (last + 1) // 2], 2)
    return ordered.gather(2, middle).mean(2)


def _grad(cells: _Cells) -> Tensor:
    """Mean length of the forward difference, over pixels with a right and a lower neighbour in
    their own patch, all three valid; 0 where there is no such pixel."""
    x, valid = cells.x, cells.valid
    dx, dy = x[:, :, :-1, 1:] - x[:, :, :-1, :-1], x[:, :, 1:, :-1] - x[:, :, :-1, :-1]
    inside = valid[:, :, :-1, :-1] & valid[:, :, :-1, 1:] & valid[:, :, 1:, :-1]
    length = torch.where(inside, (dx**2 + dy**2).sqrt(), 0)
    return length.sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)


STATISTICS: dict[str, Callable[[_Cells], Tensor]] = {
    'mean': _mean,
    'var': _var,
    'std': lambda cells: _var(cells).sqrt(),
    'min': _min,
    'max': _max,
    'range': lambda cells: _max(cells) - _min(cells),
    'median': _median,
    'grad': _grad,
}
NAMES = (*STATISTICS, 'valid_fraction')


def patch_statistics(
    depth: Tensor,
    *,
    patch_size: int | None = None,
    grid: tuple[int, int] | None = None,
    valid: Tensor | None = None,
    space: str = 'depth',
    names: Sequence[str] = NAMES,
    fill: float = float('nan'),
) -> PatchStatistics:
    """Sum up each patch of depth maps.

    Args:
        depth: (B, H, W) or (B, 1, H, W), metres. What is not positive and finite does not count.
        patch_size: Side of a patch in pixels; patches at the right and lower edge may be smaller.
        grid: Rows and columns of patches instead, such as a model's own: borders lie at
            ``round(i * H / gh)``, so that each pixel belongs to one patch, whatever the sizes.
        valid: Pixels that count, in the shape of `depth`; all if not given.
        space: ``depth``; ``log``, natural logarithm; ``inverse``, 1 / depth.
        names: Which of ``mean``, ``var`` and ``std`` (biased: over n), ``min``, ``max``,
            ``range``, ``median``, ``grad`` (inside the patch, per pixel) and ``valid_fraction``.
        fill: Value where a patch has no valid pixel.

    Raises:
        ValueError: A value is unknown, or the grid does not fit the maps.

    Examples:
        >>> import torch
        >>> from mmseg_siglip.patch_stats import patch_statistics
        >>> depth = torch.tensor([[[1.0, 1.0, 2.0, 4.0], [1.0, 1.0, 2.0, 4.0]]])
        >>> found = patch_statistics(depth, grid=(1, 2), names=('mean', 'range'))
        >>> found.values.tolist(), found.unit
        ([[[1.0, 0.0], [3.0, 2.0]]], 'm')
    """
    depth = _as_maps(depth, 'depth')
    mask = torch.isfinite(depth) & (depth > 0)
    if valid is not None:
        valid = _as_maps(valid, 'valid')
        if valid.shape != depth.shape:
            raise ValueError(
                f'valid: expected the shape of depth {tuple(depth.shape)}, '
                f'found {tuple(valid.shape)}'
            )
        mask &= valid.bool()
    if space not in SPACES:
        raise ValueError(f'space: expected one of {", ".join(SPACES)}, found {space!r}')
    check_names(names)
    rows, columns = _borders(tuple(depth.shape[1:]), patch_size, grid)
    x = torch.where(mask, depth.double(), 1)
    x = {'depth': x, 'log': x.log(), 'inverse': 1 / x}[space]
    cells, pixels = _split(torch.where(mask, x, 0), mask, rows, columns)
    some = cells.count > 0
    columns_of = []
    for name in names:
        if name == 'valid_fraction':
            columns_of.append(cells.count / pixels)
        else:
            columns_of.append(torch.where(some, STATISTICS[name](cells), fill))
    values = torch.stack(columns_of, 2).float().contiguous()
    return PatchStatistics(values, tuple(names), (len(rows) - 1, len(columns) - 1), space)


def check_names(names: Sequence[str]) -> None:
    """Raises: ValueError: One is unknown or there twice, or there is none."""
    wrong = [name for i, name in enumerate(names) if name not in NAMES or name in names[:i]]
    if wrong or not names:
        raise ValueError(
            f'names: expected some of {", ".join(NAMES)}, each once, found '
            f'{", ".join(map(str, wrong)) or "none"}'
        )


def depth_to_patch_stats(
    depth: Tensor,
    patch_size: int | None = None,
    *,
    stats: Sequence[str] | None = None,
    **options,
) -> PatchStatistics:
    """`patch_statistics`, whose ``names`` may be called ``stats``.

    Raises:
        ValueError: Both are given; or see there.

    Examples:
        >>> import torch
        >>> from mmseg_siglip.patch_stats import depth_to_patch_stats
        >>> depth = torch.ones(1, 32, 48)
        >>> found = depth_to_patch_stats(depth, patch_size=16, stats=('mean', 'var', 'grad'))
        >>> found.values.shape, found.grid
        (torch.Size([1, 6, 3]), (2, 3))
    """
    if stats is not None:
        if 'names' in options:
            raise ValueError('stats and names are the same: expected one, found both')
        options['names'] = stats
    return patch_statistics(depth, patch_size=patch_size, **options)


def _as_maps(maps: Tensor, name: str) -> Tensor:
    if maps.dim() == 4 and maps.shape[1] == 1:
        maps = maps[:, 0]
    if maps.dim() != 3:
        raise ValueError(f'{name}: expected (B, H, W) or (B, 1, H, W), found {tuple(maps.shape)}')
    return maps


def _borders(
    size: tuple[int, int], patch_size: int | None, grid: tuple[int, int] | None
) -> tuple[list[int], list[int]]:
    """First row of each patch and the end, and the same for columns."""
    if (patch_size is None) == (grid is None):
        raise ValueError(f'expected patch_size or grid, found {patch_size} and {grid}')
    if patch_size is not None:
        if patch_size < 1:
            raise ValueError(f'patch_size: expected 1 or more, found {patch_size}')
        return tuple([*range(0, side, patch_size), side] for side in size)
    if any(not 1 <= cells <= side for cells, side in zip(grid, size, strict=True)):
        raise ValueError(f'grid: expected 1 to {size[0]} x 1 to {size[1]} patches, found {grid}')
    return tuple(
        [round(i * side / cells) for i in range(cells + 1)]
        for cells, side in zip(grid, size, strict=True)
    )


def _split(x: Tensor, mask: Tensor, rows: list[int], columns: list[int]) -> tuple[_Cells, Tensor]:
    """Pixels by patch, and how many each patch has, (N,)."""
    row, row_inside = _indices(rows, x.device)
    column, column_inside = _indices(columns, x.device)
    shape = (len(rows) - 1, len(columns) - 1)
    inside = row_inside[:, None, :, None] & column_inside[None, :, None, :]
    row, column = row[:, None, :, None], column[None, :, None, :]
    x = x[:, row, column].flatten(1, 2)
    mask = (mask[:, row, column] & inside).flatten(1, 2)
    pixels = inside.sum((2, 3)).reshape(shape[0] * shape[1])
    return _Cells(torch.where(mask, x, 0), mask), pixels


def _indices(borders: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """(cells, longest) pixel numbers of each cell of one side, and which of them are in it."""
    edges = torch.tensor(borders, device=device)
    longest = max(end - start for start, end in pairwise(borders))
    number = edges[:-1, None] + torch.arange(longest, device=device)
    inside = number < edges[1:, None]
    return number.clamp(max=borders[-1] - 1), inside
