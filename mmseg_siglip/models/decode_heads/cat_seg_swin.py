"""CAT-Seg's spatial aggregation: two Swin blocks on each class's own map, led by the image.

CAT-Seg, https://arxiv.org/abs/2303.11797; Swin, https://arxiv.org/abs/2103.14030 (here without a
relative position bias, as in CAT-Seg's code).

Shapes: B images, T classes, grid (h, w), C channels, G channels of guidance; n windows of L tokens,
H heads of d channels.

Queries and keys are linear in the concatenation of map and guidance, W [x; g] = W_x x + W_g g, and
the guidance is the same for all classes of an image: its part is computed once an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad, scaled_dot_product_attention

from mmseg_siglip.models.decode_heads.chunks import in_chunks

CHUNK = 8192
"""Tokens that are worked on at a time where no gradients are wanted."""


@dataclass(frozen=True)
class SwinWindows:
    """How a grid is cut into windows.

    A side that the window does not divide is padded at its end, a side no longer than the window
    is one window without a shift. Tokens of the padding, and those that only the cyclic shift
    brought together, do not see each other.

    Attributes:
        grid: (h, w).
        window: Largest side of a window.
        shift: Cyclic shift, in tokens.
    """

    grid: tuple[int, int]
    window: int
    shift: int = 0

    @property
    def sides(self) -> tuple[int, int]:
        return tuple(min(self.window, side) for side in self.grid)

    @property
    def shifts(self) -> tuple[int, int]:
        return tuple(self.shift if side > self.window else 0 for side in self.grid)

    @property
    def counts(self) -> tuple[int, int]:
        return tuple(-(-side // part) for side, part in zip(self.grid, self.sides, strict=True))

    def partition(self, x: Tensor) -> Tensor:
        """(B, T, h, w, C) to (B, T, n, L, C)."""
        (rows, columns), (height, width) = self.counts, self.sides
        down, right = rows * height - self.grid[0], columns * width - self.grid[1]
        if down or right:
            x = pad(x, (0, 0, 0, right, 0, down))
        if any(self.shifts):
            x = x.roll([-step for step in self.shifts], dims=(2, 3))
        x = x.unflatten(3, (columns, width)).unflatten(2, (rows, height))
        return x.transpose(3, 4).flatten(4, 5).flatten(2, 3)

    def merge(self, x: Tensor) -> Tensor:
        """The inverse of `partition`."""
        x = x.unflatten(3, self.sides).unflatten(2, self.counts)
        x = x.transpose(3, 4).flatten(4, 5).flatten(2, 3)
        if any(self.shifts):
            x = x.roll(self.shifts, dims=(2, 3))
        return x[:, :, : self.grid[0], : self.grid[1]]

    def mask(self, device: torch.device) -> Tensor | None:
        """(n, L, L) bool, which tokens see each other; None if all do.

        Made anew at each call, which costs far less than the attention that it is for. A cached
        tensor would keep the mode that it was made in, be it inference or export.
        """
        lengths = tuple(part * n for part, n in zip(self.sides, self.counts, strict=True))
        if lengths == self.grid and not any(self.shifts):
            return None
        regions = SwinWindows(lengths, self.window).partition(self.regions(device))[0, 0, :, :, 0]
        return regions[:, :, None] == regions[:, None, :]

    def regions(self, device: torch.device) -> Tensor:
        """A number for each token of the padded, shifted grid, (1, 1, rows, columns, 1): equal
        ones see each other."""
        number = torch.zeros(1, 1, 1, 1, 1, dtype=torch.long, device=device)
        for axis, (side, part, count, shift) in enumerate(
            zip(self.grid, self.sides, self.counts, self.shifts, strict=True)
        ):
            length = part * count
            place = torch.arange(length, device=device)
            region = (place + shift) // length + 2 * ((place + shift) % length >= side)
            shape = [1, 1, 1, 1, 1]
            shape[2 + axis] = length
            number = 4 * number + region.reshape(shape)
        return number


class WindowAttention(nn.Module):
    """Attention inside windows; guidance joins queries and keys, not values."""

    learnt_with = ('num_heads',)

    def __init__(self, channels: int, guidance_channels: int, *, num_heads: int) -> None:
        super().__init__()
        self.channels, self.num_heads = channels, num_heads
        self.q = nn.Linear(channels + guidance_channels, channels)
        self.k = nn.Linear(channels + guidance_channels, channels)
        self.v = nn.Linear(channels, channels)
        self.proj = nn.Linear(channels, channels)

    def guide(self, guidance: Tensor) -> Tensor:
        """The guidance's part of queries and keys, and the values' bias: (..., G) to (..., 3C)."""
        c = self.channels
        parts = [linear(guidance, layer.weight[:, c:], layer.bias) for layer in (self.q, self.k)]
        return torch.cat([*parts, self.v.bias.to(parts[0]).expand_as(parts[0])], dim=-1)

    def forward(self, x: Tensor, guide: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, n, L, C) to the same; `guide` is (B, 1, n, L, 3C), from `guide`."""
        batch, classes, n = x.shape[:3]
        c = self.channels
        weight = torch.cat([self.q.weight[:, :c], self.k.weight[:, :c], self.v.weight])
        qkv = (linear(x, weight) + guide).unflatten(-1, (3, self.num_heads, -1))
        # (B, T, n, L, 3, H, d) to three (B*T, n*H, L, d), so that one mask serves all maps.
        qkv = qkv.permute(4, 0, 1, 2, 5, 3, 6).flatten(3, 4).flatten(1, 2)
        if mask is not None:
            mask = mask.repeat_interleave(self.num_heads, dim=0)
        y = scaled_dot_product_attention(*qkv, attn_mask=mask)
        y = y.reshape(batch, classes, n, self.num_heads, *y.shape[2:]).transpose(3, 4).flatten(4)
        return self.proj(y)


class SwinBlock(nn.Module):
    """Window attention and an MLP, each behind a norm and beside a residual."""

    learnt_with = ('window',)

    def __init__(
        self,
        channels: int,
        guidance_channels: int,
        *,
        num_heads: int,
        window: int,
        shift: int,
        mlp_ratio: int = 4,
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, guidance_channels, num_heads=num_heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, mlp_ratio * channels),
            nn.GELU(),
            nn.Linear(mlp_ratio * channels, channels),
        )

    def forward(self, x: Tensor, guidance: Tensor, *, with_cp: bool = False) -> Tensor:
        """(B, T, h, w, C) to the same; `guidance` is (B, 1, h, w, G), normed."""
        grid = tuple(x.shape[2:4])
        windows = SwinWindows(grid, self.window, self.shift)
        mask = windows.mask(x.device)
        guide = self.attn.guide(windows.partition(guidance))

        def block(x: Tensor) -> Tensor:
            x = x + windows.merge(self.attn(windows.partition(self.norm1(x)), guide, mask))
            return x + self.mlp(self.norm2(x))

        maps = CHUNK // (len(x) * grid[0] * grid[1])
        return in_chunks(block, x, dim=1, size=maps, with_cp=with_cp)


class SpatialAggregation(nn.Module):
    """A plain and a shifted Swin block."""

    def __init__(
        self, channels: int, guidance_channels: int, *, num_heads: int, window: int
    ) -> None:
        super().__init__()
        self.guidance_norm = nn.LayerNorm(guidance_channels)
        self.blocks = nn.ModuleList(
            SwinBlock(channels, guidance_channels, num_heads=num_heads, window=window, shift=shift)
            for shift in (0, window // 2)
        )

    def forward(self, x: Tensor, guidance: Tensor, *, with_cp: bool = False) -> Tensor:
        """(B, T, h, w, C) to the same; `guidance` is (B, h, w, G)."""
        guidance = self.guidance_norm(guidance)[:, None]
        for block in self.blocks:
            x = block(x, guidance, with_cp=with_cp)
        return x
