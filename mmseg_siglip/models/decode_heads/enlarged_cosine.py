"""Cosines of a map enlarged bilinearly, without the enlarged map.

The dot product of a bilinear mixture is the mixture of dot products, and its squared length a
mixture of the products of its four corners. So a map of a thousand channels needs no copy in the
size of the result.

Shapes: R rows, C channels, grid (h, w), result (H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize, pad


def enlarged_cosine(cells: Tensor, vectors: Tensor, size: tuple[int, int]) -> Tensor:
    """Cosine of each row's vector and its map, the map enlarged first, corners on corners.

    Args:
        cells: (R, C, h, w).
        vectors: (R, C).
        size: (H, W).

    Returns:
        (R, 1, H, W) float32.
    """
    with torch.autocast(cells.device.type, enabled=False):
        cells, unit = cells.float(), normalize(vectors.float(), dim=-1)
        dots = torch.einsum('rchw,rc->rhw', cells, unit)[:, None]
        dots = interpolate(dots, size=size, mode='bilinear', align_corners=True)
        return dots / squared_lengths(cells, size).clamp(min=1e-12).sqrt()


def squared_lengths(cells: Tensor, size: tuple[int, int]) -> Tensor:
    """Squared lengths of (R, C, h, w) enlarged to (H, W), corners on corners: (R, 1, H, W)."""
    (top, low, y), (left, right, x) = (
        between(n, m, cells.device) for n, m in zip(cells.shape[-2:], size, strict=True)
    )
    here, east = cells, shifted(cells, 0, 1)
    south, both = shifted(cells, 1, 0), shifted(cells, 1, 1)

    def at(one: Tensor, other: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return (one * other).sum(1, keepdim=True)[:, :, rows[:, None], columns]

    y, x = y[:, None], x[None]
    a, b, c, d = (1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x  # of the four corners
    squares = (
        a * a * at(here, here, top, left)
        + b * b * at(here, here, top, right)
        + c * c * at(here, here, low, left)
        + d * d * at(here, here, low, right)
    )
    sides = (
        a * b * at(here, east, top, left)
        + c * d * at(here, east, low, left)
        + a * c * at(here, south, top, left)
        + b * d * at(here, south, top, right)
    )
    diagonals = a * d * at(here, both, top, left) + b * c * at(east, south, top, left)
    return squares + 2 * (sides + diagonals)


def between(count: int, wanted: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where each of `wanted` places lies among `count`, ends on ends: the index before it, the one
    behind it, and the part of the way."""
    place = torch.linspace(0, count - 1, wanted, device=device)
    before = place.long().clamp(max=max(count - 2, 0))
    return before, (before + 1).clamp(max=count - 1), place - before


def shifted(cells: Tensor, rows: int, columns: int) -> Tensor:
    """Each cell's neighbour so many rows below and columns to the right; itself at the end."""
    height, width = cells.shape[-2:]
    return pad(cells, (0, columns, 0, rows), mode='replicate')[..., rows:, columns:][
        ..., :height, :width
    ]
