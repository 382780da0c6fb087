"""CAT-Seg's class aggregation: linear attention among the classes, at each place of the grid.

CAT-Seg, https://arxiv.org/abs/2303.11797; linear attention, https://arxiv.org/abs/2006.16236.

Shapes: B images, T classes, grid (h, w), P = h*w places after pooling, C channels, G channels of
text guidance, H heads of d channels.

CAT-Seg pads the classes to a fixed number with a learned token. All padding tokens are equal, and
linear attention sums over its keys, so one of them, counted as often as it occurs, is exact.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, elu, interpolate, linear

from mmseg_siglip.models.decode_heads.chunks import in_chunks

CHUNK = 8192
"""Tokens that are worked on at a time where no gradients are wanted."""
EPS = 1e-6


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, pad: tuple[Tensor, Tensor] | None, count: int
) -> Tensor:
    """phi(q) sum phi(k)ᵀ v / (phi(q) sum phi(k)), with phi(x) = elu(x) + 1.

    Args:
        q, k, v: (..., T, d).
        pad: Key and value (H, 1, d) of the padding token, if there is one.
        count: How often that token occurs; 0 leaves it in the graph, its gradient 0.

    Returns:
        (..., T, d), at least float32.
    """
    with torch.autocast(q.device.type, enabled=False):
        dtype = torch.promote_types(q.dtype, torch.float32)
        q, k, v = (part.to(dtype) for part in (q, k, v))
        q, k = elu(q) + 1, elu(k) + 1
        total = k.sum(-2, keepdim=True)
        summed = k.transpose(-1, -2) @ v
        if pad is not None:
            pad_k, pad_v = (part.to(dtype) for part in pad)
            pad_k = count * (elu(pad_k) + 1)
            total = total + pad_k
            summed = summed + pad_k.transpose(-1, -2) @ pad_v
        return (q @ summed) / (q @ total.transpose(-1, -2) + EPS)


class ClassAttention(nn.Module):
    """Linear attention whose queries and keys also see the class's text."""

    learnt_with = ('num_heads',)

    def __init__(self, channels: int, guidance_channels: int, *, num_heads: int) -> None:
        super().__init__()
        self.channels, self.num_heads = channels, num_heads
        self.q = nn.Linear(channels + guidance_channels, channels)
        self.k = nn.Linear(channels + guidance_channels, channels)
        self.v = nn.Linear(channels, channels)

    def guide(self, guidance: Tensor) -> Tensor:
        """The text's part of queries and keys, and the values' bias: (..., G) to (..., 3C)."""
        c = self.channels
        parts = [linear(guidance, layer.weight[:, c:], layer.bias) for layer in (self.q, self.k)]
        return torch.cat([*parts, self.v.bias.to(parts[0]).expand_as(parts[0])], dim=-1)

    def qkv(self, x: Tensor, guide: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., T, C) to three (..., H, T, d)."""
        c = self.channels
        weight = torch.cat([self.q.weight[:, :c], self.k.weight[:, :c], self.v.weight])
        qkv = (linear(x, weight) + guide).unflatten(-1, (3, self.num_heads, -1))
        return tuple(part.transpose(-2, -3) for part in qkv.unbind(-3))


class ClassAggregation(nn.Module):
    """Class attention and an MLP on pooled maps, whose result is added to the full ones.

    Args:
        channels, guidance_channels: C and G.
        num_heads: H.
        pad_len: Number that the classes are padded to; 0 for none.
    """

    def __init__(
        self,
        channels: int,
        guidance_channels: int,
        *,
        num_heads: int,
        pad_len: int,
        mlp_ratio: int = 4,
    ) -> None:
        super().__init__()
        self.pad_len = pad_len
        self.norm1 = nn.LayerNorm(channels)
        self.attention = ClassAttention(channels, guidance_channels, num_heads=num_heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, mlp_ratio * channels),
            nn.ReLU(),
            nn.Linear(mlp_ratio * channels, channels),
        )
        if pad_len:
            self.padding_tokens = nn.Parameter(torch.zeros(1, 1, channels))
            self.padding_guidance = nn.Parameter(torch.zeros(1, 1, guidance_channels))

    def forward(
        self, x: Tensor, guidance: Tensor, *, pooling: int, with_cp: bool = False
    ) -> Tensor:
        """(B, T, h, w, C) to the same; `guidance` is (B, T, G).

        A side that `pooling` does not divide ends in a smaller cell.
        """
        batch, classes, height, width, _ = x.shape
        pooled = x
        if pooling > 1:
            maps = avg_pool2d(to_maps(x), pooling, ceil_mode=True)
            pooled = to_tokens(maps, batch)
        grid = pooled.shape[2:4]
        places = pooled.flatten(2, 3).transpose(1, 2)
        guide = self.attention.guide(guidance)[:, None]
        places = in_chunks(
            lambda part: self._mix(part, guide),
            places,
            dim=1,
            size=CHUNK // (batch * classes),
            with_cp=with_cp,
        )
        pooled = places.transpose(1, 2).unflatten(2, grid)
        if pooling > 1:
            maps = interpolate(
                to_maps(pooled), size=(height, width), mode='bilinear', align_corners=True
            )
            pooled = to_tokens(maps, batch)
        return x + pooled

    def _mix(self, x: Tensor, guide: Tensor) -> Tensor:
        """(B, P, T, C) to the same."""
        q, k, v = self.attention.qkv(self.norm1(x), guide)
        y = linear_attention(q, k, v, *self._padding(x))
        x = x + y.to(x.dtype).transpose(-2, -3).flatten(-2)
        return x + self.mlp(self.norm2(x))

    def _padding(self, x: Tensor) -> tuple[tuple[Tensor, Tensor] | None, int]:
        """Arguments of `linear_attention`.

        In training the token is there even if it occurs 0 times, for DDP waits for its gradient.
        """
        count = max(self.pad_len - x.shape[2], 0)
        if not (count or (self.pad_len and torch.is_grad_enabled())):
            return None, 0
        guide = self.attention.guide(self.padding_guidance[0])
        _, k, v = self.attention.qkv(self.norm1(self.padding_tokens[0]), guide)
        return (k, v), count


def to_maps(x: Tensor) -> Tensor:
    """(B, T, h, w, C) to (B*T, C, h, w), a view in channels-last order."""
    return x.flatten(0, 1).permute(0, 3, 1, 2)


def to_tokens(maps: Tensor, batch: int) -> Tensor:
    """The inverse of `to_maps`."""
    return maps.permute(0, 2, 3, 1).unflatten(0, (batch, -1))
