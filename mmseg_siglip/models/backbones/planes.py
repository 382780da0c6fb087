"""Scores of pixels that are made some rows at a time, so that never all are there at once.

Shapes: n images or windows of (h, w) cells, Q words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Planes:
    """What stands for (Q, h, w) of an image or a window.

    Attributes:
        size: (h, w).
        rows: First row, and the one behind the last, to (Q, last - first, w) float32.
    """

    size: tuple[int, int]
    rows: Callable[[int, int], Tensor]


Dense = Tensor | Sequence[Planes]
"""What a dense method gives of n elements: (n, D, h, w), or scores as `Planes`."""


def whole(planes: Sequence[Planes]) -> Tensor:
    """(n, Q, h, w), all at once."""
    return torch.stack([one.rows(0, one.size[0]) for one in planes])
