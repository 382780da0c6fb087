"""DINOv3's blocks, whose places are rotations, https://arxiv.org/abs/2508.10104.

Shapes: B images, H heads, grid (h, w), P = CLS and registers, N = P + h*w tokens, d per head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmseg_siglip.models.backbones.block import merge_heads, split_heads


class PatchAngles:
    """Sines and cosines by which DINOv3 turns the patches of a grid, made once a pass."""

    def __init__(self, speeds: Tensor) -> None:
        self.speeds = speeds
        self.made: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def __call__(self, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """(h*w, d) each, float32."""
        if grid not in self.made:
            speeds = self.speeds.float()
            centres = [
                2 * (torch.arange(side, device=speeds.device) + 0.5) / side - 1 for side in grid
            ]
            places = torch.stack(torch.meshgrid(*centres, indexing='ij'), dim=-1).flatten(0, 1)
            angles = (2 * math.pi * places[:, :, None] * speeds).flatten(1).repeat(1, 2)
            self.made[grid] = angles.sin(), angles.cos()
        return self.made[grid]


class DINOv3Block:
    """A `Block` over a layer of transformers' DINOv3; without a grid its `qkv` turns nothing.

    Args:
        layer: The layer.
        angles: Of its patches.
        final: A norm of its output that is part of it, residual and all.
    """

    def __init__(
        self, layer: nn.Module, angles: PatchAngles, final: nn.Module | None = None
    ) -> None:
        self.layer, self.angles, self.final = layer, angles, final

    def norm(self, x: Tensor) -> Tensor:
        return self.layer.norm1(x)

    def qkv(self, u: Tensor, grid: tuple[int, int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.layer.attention
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        q, k, v = (split_heads(part(u), attention.num_heads) for part in projections)
        if grid is None:
            return q, k, v
        return self.turn(q, grid), self.turn(k, grid), v

    def turn(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, H, N, d), the patches turned, the prefix not."""
        sine, cosine = self.angles(grid)
        prefix, patches = x.split([x.shape[2] - len(sine), len(sine)], dim=2)
        first, second = patches.chunk(2, dim=-1)
        turned = patches * cosine + torch.cat([-second, first], dim=-1) * sine
        return torch.cat([prefix, turned.to(x.dtype)], dim=2)

    def out(self, y: Tensor) -> Tensor:
        return self.layer.layer_scale1(self.layer.attention.o_proj(merge_heads(y)))

    def ffn(self, x: Tensor) -> Tensor:
        y = self.layer.layer_scale2(self.layer.mlp(self.layer.norm2(x)))
        return y if self.final is None else self.final(x + y) - x
