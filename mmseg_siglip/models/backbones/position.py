"""Resizing learned position embeddings to the grid of the image at hand.

Grids are (h, w) in patches and are compared as pairs: 4 x 9 and 6 x 6 hold as many tokens, yet
need different embeddings.
"""

from __future__ import annotations

import torch
from torch import SymInt, Tensor
from torch.nn.functional import grid_sample, interpolate


def resize_position(
    position: Tensor,
    native: tuple[int, int],
    grid: tuple[int, int],
    *,
    mode: str = 'bicubic',
    antialias: bool = False,
    offset: float = 0.0,
) -> Tensor:
    """Resample position embeddings from the `native` grid to `grid`.

    Args:
        position: (native_h * native_w, C), row by row.
        native: The grid the encoder was trained on.
        grid: The grid wanted.
        mode: As in ``torch.nn.functional.interpolate``.
        antialias: As in ``torch.nn.functional.interpolate``.
        offset: Patches added to `grid` when the sampling step is computed. DINO, and SCLIP after
            it, use 0.1 (https://github.com/facebookresearch/dino/issues/8); it moves the sampling
            points, so weights compared with theirs need it.

    Returns:
        (grid_h * grid_w, C), `position` itself where the grids are equal. Where `grid` is symbols,
        of a graph for any size, equal grids are not told apart: resampling leaves them as they are.

    Raises:
        ValueError: `grid` is symbols, and an `offset` and `antialias` are wanted together.
    """
    symbols = any(isinstance(side, SymInt) for side in grid)
    if symbols and offset:
        if antialias:
            raise ValueError('position_offset: expected 0 beside position_antialias in a graph')
        return sample_position(position, native, grid, mode=mode, offset=offset)
    if symbols and mode == 'bilinear':
        return blend_position(position, native, grid, antialias=antialias)
    if not symbols and grid == native:
        return position
    plane = position.float().T.reshape(1, -1, *native)
    if offset:
        scale = tuple((want + offset) / have for want, have in zip(grid, native, strict=True))
        plane = interpolate(plane, scale_factor=scale, mode=mode, antialias=antialias)
    else:
        plane = interpolate(plane, size=grid, mode=mode, antialias=antialias)
    assert tuple(plane.shape[-2:]) == tuple(grid), (plane.shape, grid)
    return plane.flatten(2)[0].T.to(position.dtype)


def sample_position(
    position: Tensor, native: tuple[int, int], grid: tuple[int, int], *, mode: str, offset: float
) -> Tensor:
    """`resize_position` by computed places, so that a graph can tell itself whether grids are equal
    and then move nothing."""
    sides = [torch.arange(1, side + 1, device=position.device).float() for side in grid]
    equal = [side[-1] == have for side, have in zip(sides, native, strict=True)]
    if mode != 'bilinear':  # torch leaves a side of equal length where it is, if bilinear
        equal = [equal[0] & equal[1]] * 2
    places = []
    for side, have, stays in zip(sides, native, equal, strict=True):
        step = have / torch.where(stays, side[-1], side[-1] + offset)
        places.append(2 * (side - 0.5) * step / have - 1)  # -1 and 1 are the borders
    rows, columns = places
    rows, columns = rows[:, None].expand(*grid), columns.expand(*grid)
    plane = position.float().T.reshape(1, -1, *native)
    found = grid_sample(
        plane,
        torch.stack([columns, rows], dim=-1)[None],
        mode=mode,
        padding_mode='border',
        align_corners=False,
    )
    return found.flatten(2)[0].T.to(position.dtype)


def blend_position(
    position: Tensor, native: tuple[int, int], grid: tuple[int, int], *, antialias: bool
) -> Tensor:
    """`resize_position`, bilinear, as a product with a matrix for each side, which a graph for any
    size can hold."""
    plane = position.float().unflatten(0, native)
    rows, columns = (
        bilinear_weights(side, have, antialias=antialias).to(plane)
        for side, have in zip(grid, native, strict=True)
    )
    found = torch.einsum('yh,xw,hwc->yxc', rows, columns, plane)
    return found.flatten(0, 1).to(position.dtype)


def bilinear_weights(side: int, have: int, *, antialias: bool) -> Tensor:
    """(side, have): how much each of `have` pixels counts in each of `side`."""
    count = torch.arange(1, side + 1).float()
    step = have / count[-1]
    reach = step.clamp(min=1) if antialias else 1
    away = torch.arange(have) + 0.5 - ((count - 0.5) * step)[:, None]
    weights = (1 - away.abs() / reach).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)
