"""Resizing learned position embeddings to the grid of the image at hand.

Grids are (h, w) in patches and are compared as pairs: 4 x 9 and 6 x 6 hold as many tokens, yet
need different embeddings.
"""

from __future__ import annotations

from torch import SymInt, Tensor
from torch.nn.functional import interpolate


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
        ValueError: `grid` is symbols and there is an `offset`, by which equal grids would move.
    """
    if any(isinstance(side, SymInt) for side in grid):
        if offset:
            raise ValueError(
                f'position_offset: expected 0 in a graph for images of any size, found {offset}'
            )
    elif grid == native:
        return position
    plane = position.float().T.reshape(1, -1, *native)
    if offset:
        scale = tuple((want + offset) / have for want, have in zip(grid, native, strict=True))
        plane = interpolate(plane, scale_factor=scale, mode=mode, antialias=antialias)
    else:
        plane = interpolate(plane, size=grid, mode=mode, antialias=antialias)
    assert tuple(plane.shape[-2:]) == tuple(grid), (plane.shape, grid)
    return plane.flatten(2)[0].T.to(position.dtype)
