"""Tokens that know their grid."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """What a trunk or a dense method gives.

    Attributes:
        x: (B, prefix + h*w, C).
        grid: (h, w). A method with a second model may return a finer one than the encoder's, which
            spans the same pixels.
        prefix: Tokens before the patches, such as CLS.
    """

    x: Tensor
    grid: tuple[int, int]
    prefix: int = 0

    @property
    def patches(self) -> Tensor:
        """(B, h*w, C)."""
        return self.x[:, self.prefix :]

    @property
    def map(self) -> Tensor:
        """(B, C, h, w)."""
        return self.patches.transpose(1, 2).unflatten(2, self.grid)

    def replace(self, x: Tensor) -> Tokens:
        """Others at the same places; without the prefix where `x` has none."""
        cells = self.grid[0] * self.grid[1]
        return Tokens(x, self.grid, x.shape[1] - cells)
