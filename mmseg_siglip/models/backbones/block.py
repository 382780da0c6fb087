"""A transformer block of any library, opened up: its parts by name, and one way to run them.

Shapes: B images, H heads, N = P + h*w tokens (P prefix tokens, such as CLS, come first), d per
head, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from mmseg_siglip.precision import compute_dtype

CHUNK_BYTES = 16 * 2**20  # of logits at a time, about what caches hold

Mix = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values (B, H, N, d) to (B, H, N, d): what takes the place of attention."""
Residual = bool | Literal['cls']


class Block(Protocol):
    """What a block of any library must offer."""

    def norm(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C), the norm in front of attention."""

    def qkv(self, u: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Normed tokens (B, N, C) to three (B, H, N, d); where positions are rotary, turned."""

    def out(self, y: Tensor) -> Tensor:
        """(B, H, N, d) to (B, N, C), the output projection, a layer scale included."""

    def ffn(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C), the second norm and layer scale included, the residual not."""


def run_block(
    block: Block,
    x: Tensor,
    mix: Mix,
    *,
    grid: tuple[int, int],
    residual: Residual = True,
    ffn: bool = True,
) -> Tensor:
    """Run `block` on tokens (B, N, C) with its attention replaced by `mix`; same shape out.

    Args:
        block: The block.
        x: Its input.
        mix: See `Mix`.
        grid: (h, w) of the patches.
        residual: Whether the input is added to what attention gives; ``'cls'`` adds the first
            token's to all.
        ffn: Whether the feed-forward part follows, with its own residual.
    """
    y = block.out(mix(*block.qkv(block.norm(x), grid)))
    if residual:
        y = y + (x[:, :1] if residual == 'cls' else x)
    if ffn:
        y = y + block.ffn(y)
    return y


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / √d + bias) v, by torch's fused kernel, or what is faster than it.

    That kernel has no use for a CPU's bfloat16 matrix units. There, unless gradients are wanted,
    the product is formed as it is written, some queries at a time; its logits are rounded to
    bfloat16.

    Args:
        q, k, v: (..., N, d).
        bias: (..., N, N), or anything that broadcasts to it.
    """
    plain = q.device.type == 'cpu' and q.dtype == torch.bfloat16 and not torch.is_grad_enabled()
    if not plain or compute_dtype('auto', q.device) != torch.bfloat16:
        return scaled_dot_product_attention(q, k, v, attn_mask=bias)
    step = max(1, CHUNK_BYTES // (q[..., 0, 0].numel() * k.shape[-2] * q.element_size()))
    if bias is not None:
        bias = bias.expand(*bias.shape[:-2], q.shape[-2], k.shape[-2])
    k = k.transpose(-1, -2)
    parts = []
    for first in range(0, q.shape[-2], step):
        logits = (q[..., first : first + step, :] * q.shape[-1] ** -0.5) @ k
        if bias is not None:
            logits = logits + bias[..., first : first + step, :]
        parts.append(logits.softmax(-1) @ v)
    return torch.cat(parts, dim=-2)


def attend_plainly(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) v as it is written, for training in bfloat16 on a CPU, where it takes a
    fraction of the fused kernel's time and keeps the logits for the backward pass."""
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v


def mask_bias(masks: Tensor, prefix: int, like: Tensor) -> Tensor:
    """What attention adds so that each of R queries sees the prefix tokens and some patches.

    Args:
        masks: (B, R, h*w) bool, or weights in [0, 1]; where there is none, all are seen.
        prefix: P.
        like: Gives the type.

    Returns:
        (B, 1, R, P + h*w), logarithms of weights.
    """
    weights = masks.float()
    weights = torch.where(weights.any(-1, keepdim=True), weights, 1.0)
    return pad(weights.log(), (prefix, 0))[:, None].to(like.dtype)


def beside(k: Tensor, v: Tensor, bias: Tensor) -> Mix:
    """Attention of tokens that see others and not themselves."""
    return lambda q, *own: attend(q, k, v, bias.to(q.dtype))


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, H*d) to (B, H, N, d)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, N, d) to (B, N, H*d)."""
    return x.transpose(1, 2).flatten(2)
