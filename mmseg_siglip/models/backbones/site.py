"""Where a dense method puts its own attention: the last one that the encoder has.

CLIP's last attention is that of its last block, whose query of the CLS token is the one that
training reached. An encoder that pools by attention has its last one in the pooling head, with the
probe as the only query. A method that is written against a `Site` works on both.

Shapes: B images, H heads, N = P + h*w tokens, M cells of any grid, d per head, C channels, D joint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from mmseg_siglip.models.backbones.block import Block, run_block
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.precision import autocast

if TYPE_CHECKING:
    from mmseg_siglip.models.backbones.trunk import Method, Trunk

SITES = ('trunk', 'head')


class Site(Protocol):
    """One attention of an encoder, opened up.

    Attributes:
        block: Its parts.
    """

    block: Block

    @property
    def x(self) -> Tensor:
        """What enters it, (B, N, C), before its norm."""

    def qkv(self, x: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Three (B, H, N, d) of what enters it, or of other tokens (B, N, C) in its place."""

    def out(self, mixed: Tensor) -> Tensor:
        """(B, H, M, d) to (B, M, C), the output projection."""

    def read(self, y: Tensor, grid: tuple[int, int]) -> Tensor:
        """What `out` gave for the cells of a grid (B, M, C), to joint features (B, D, h, w), not
        normalised, without the residual."""

    def end(self, y: Tensor, grid: tuple[int, int]) -> Tokens | Tensor:
        """The same for a method's ``forward`` to return: what is left to the encoder stays so."""

    def run(self, method: Method) -> Tokens | Tensor:
        """The encoder with this attention replaced by ``method.mix``."""


class LastBlock:
    """The attention of the trunk's last block."""

    def __init__(self, trunk: Trunk) -> None:
        self.trunk, self.block = trunk, trunk.blocks[-1]

    @property
    def x(self) -> Tensor:
        return self.trunk.input(-1)

    def qkv(self, x: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        return self.trunk.qkv(-1, self.x if x is None else x)

    def out(self, mixed: Tensor) -> Tensor:
        return self.block.out(mixed)

    def read(self, y: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.trunk.project(Tokens(y, grid))

    def end(self, y: Tensor, grid: tuple[int, int]) -> Tokens:
        return Tokens(y, grid)

    def run(self, method: Method) -> Tokens:
        trunk = self.trunk
        return Tokens(trunk.run(-1, trunk.input(-1), method), trunk.grid, trunk.prefix)


class PoolingHead:
    """The attention of the pooling head, over the normed tokens behind the last block.

    Args:
        trunk: Of an `AttentionPooled` encoder.
        readout: ``map`` or ``value``, see `AttentionPooled`.
    """

    def __init__(self, trunk: Trunk, readout: str) -> None:
        self.trunk, self.block = trunk, trunk.encoder.head_block()
        self.mlp = readout == 'map'

    @property
    def x(self) -> Tensor:
        return self.trunk.output(-1)

    def qkv(self, x: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        z = self.trunk.encoder.norm(self.x if x is None else x)
        return self.block.qkv(z, self.trunk.grid)

    def out(self, mixed: Tensor) -> Tensor:
        return self.block.out(mixed)

    def read(self, y: Tensor, grid: tuple[int, int]) -> Tensor:
        y = y + self.block.ffn(y) if self.mlp else y
        return Tokens(self.trunk.encoder.to_joint(y), grid).map

    end = read

    @property
    def probe(self) -> Tensor:
        """The softmaxed row of the probe over all tokens, (B, H, 1, N) float32."""
        q = self.block.qkv(self.trunk.encoder.probe(), self.trunk.grid)[0].float()
        k = self.qkv()[1].float()
        with autocast('fp32', k.device):
            return (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1)

    @property
    def pooled(self) -> Tensor:
        """The image as a patch is read, (B, D, 1, 1): where that is ``map``, the encoder's own
        vector."""
        v = self.qkv()[2]
        return self.read(self.out(self.probe.to(v.dtype) @ v), (1, 1))

    def run(self, method: Method) -> Tensor:
        trunk = self.trunk
        z = run_block(
            self.block,
            trunk.encoder.norm(self.x),
            lambda q, k, v: method.mix(q, k, v, trunk),
            grid=trunk.grid,
            residual=False,
            ffn=self.mlp,
        )
        return Tokens(trunk.encoder.to_joint(z), trunk.grid, trunk.prefix).map
