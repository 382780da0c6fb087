"""Residual cross-correlation self-attention (RCS), https://arxiv.org/abs/2411.15851.

Shapes: B images, H heads, N tokens, M queries of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.rows import RowsOf, maps_of, mean_maps


@dataclass(frozen=True)
class ResidualCross:
    """What middle blocks attend to, mixed into the weights of the last attention.

    A becomes τ ((1 - λ) A + λ R), R the mean of the blocks' own maps. Head j takes head j; in the
    pooling head, whose heads are others than the trunk's, each takes the mean of all.

    Attributes:
        tau: τ.
        weight: λ.
    """

    tau: float
    weight: float

    def middle(self, trunk: Trunk, blocks: Sequence[int]) -> RowsOf:
        """Rows of R."""
        maps = [maps_of(trunk, block) for block in blocks]
        return mean_maps(maps, heads=trunk.surroundings.site == 'trunk')

    def mixed(self, own: RowsOf, middle: RowsOf) -> RowsOf:
        """Rows of the mixture of A and R."""

        def rows(chunk: slice) -> Tensor:
            return self.tau * ((1 - self.weight) * own(chunk) + self.weight * middle(chunk))

        return rows
