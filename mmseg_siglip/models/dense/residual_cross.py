"""Residual cross-correlation self-attention (RCS), https://arxiv.org/abs/2411.15851.

Shapes: B images, H heads, N tokens, d per head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.middle import attend_as


@dataclass(frozen=True)
class ResidualCross:
    """What middle blocks attend to, mixed into the weights of the last attention.

    A becomes τ ((1 - λ) A + λ R), R the mean of the blocks' own maps; see `attend_as`. Values are
    multiplied first, so no weights are held.

    Attributes:
        tau: τ.
        weight: λ.
    """

    tau: float
    weight: float

    def middle(self, trunk: Trunk, blocks: Sequence[int]) -> Tensor:
        """R v of the last attention's values, (B, H, N, d)."""
        return attend_as(trunk, blocks, trunk.last.qkv()[2])

    def mixed(self, own: Tensor, middle: Tensor) -> Tensor:
        """τ ((1 - λ) A v + λ R v)."""
        return self.tau * ((1 - self.weight) * own + self.weight * middle)
