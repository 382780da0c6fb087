"""The dense-attention family: what takes the place of attention in an encoder's last block.

Image-text contrastive training aligns the pooled vector with text and lets patches mix freely,
so each patch token describes the image rather than its place. Every method here changes only the
last block, and differs in which tokens mix (`mix`) and in what is added around it
(`residual`, `ffn`).

Shapes: B images, H heads, N = P + h*w tokens (P prefix tokens, such as CLS, come first), d per
head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mmseg_siglip.precision import compute_dtype

GAUSSIAN_STD = 5.0
CHUNK_BYTES = 16 * 2**20  # of logits at a time, about what caches hold


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


def vanilla(q: Tensor, k: Tensor, v: Tensor, **_) -> Tensor:
    """softmax(q kᵀ / √d) v, as the encoder was trained."""
    return attend(q, k, v)


def identity(q: Tensor, k: Tensor, v: Tensor, **_) -> Tensor:
    """v: every patch keeps its own value. MaskCLIP, https://arxiv.org/abs/2112.01071."""
    return v


def correlative(q: Tensor, k: Tensor, v: Tensor, **_) -> Tensor:
    """softmax(q qᵀ / √d) v + softmax(k kᵀ / √d) v, a sum and not a mean.

    Correlative self-attention of SCLIP, https://arxiv.org/abs/2312.01597.
    """
    return attend(q, q, v) + attend(k, k, v)


def query_query(q: Tensor, k: Tensor, v: Tensor, **_) -> Tensor:
    """softmax(q qᵀ / √d) v. ClearCLIP, https://arxiv.org/abs/2407.12442."""
    return attend(q, q, v)


def neighbour(q: Tensor, k: Tensor, v: Tensor, *, grid: tuple[int, int], num_prefix: int) -> Tensor:
    """softmax(k kᵀ / √d + G) v, G a Gaussian window around each patch.

    NACLIP, https://arxiv.org/abs/2404.08181.
    """
    bias = gaussian_bias(grid, num_prefix).to(device=k.device, dtype=k.dtype)
    return attend(k, k, v, bias)


@lru_cache(maxsize=16)
def gaussian_bias(grid: tuple[int, int], num_prefix: int) -> Tensor:
    """Additive attention bias exp(-‖i - j‖² / (2 std²)) between patches, 0 for prefix tokens.

    Returns:
        (N, N) float32, values in [0, 1], distances in patches.
    """
    rows, columns = (torch.arange(side, dtype=torch.float32) for side in grid)
    centres = torch.cartesian_prod(rows, columns)
    distance = torch.cdist(centres, centres)
    bias = torch.zeros(num_prefix + len(centres), num_prefix + len(centres))
    bias[num_prefix:, num_prefix:] = torch.exp(-(distance**2) / (2 * GAUSSIAN_STD**2))
    return bias


READS = {vanilla: 'qkv', identity: 'v', correlative: 'qkv', query_query: 'qv', neighbour: 'kv'}
"""What each way to mix depends on, of query, key and value."""


@dataclass(frozen=True)
class DenseAttention:
    """One row of the family: how tokens mix, and what of the block around them is kept.

    `residual` may also be ``'cls'``: all tokens get the CLS token's.
    """

    mix: Callable[..., Tensor]
    residual: bool | Literal['cls']
    ffn: bool

    @property
    def reads(self) -> str:
        """Which of ``q``, ``k`` and ``v`` the result depends on."""
        return READS[self.mix]


ATTENTIONS = {
    'vanilla': DenseAttention(vanilla, residual=True, ffn=True),
    'maskclip': DenseAttention(identity, residual=False, ffn=False),
    'csa': DenseAttention(correlative, residual=True, ffn=True),
    'clearclip': DenseAttention(query_query, residual=False, ffn=False),
    'naclip': DenseAttention(neighbour, residual=False, ffn=False),
}


def get_attention(name: str) -> DenseAttention:
    """The method called `name`.

    Raises:
        ValueError: No method has that name.
    """
    if name not in ATTENTIONS:
        raise ValueError(f'unknown attention {name!r}; expected one of {", ".join(ATTENTIONS)}')
    return ATTENTIONS[name]


class Block(Protocol):
    """What a transformer block of any library must offer; C channels."""

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, C) to three (B, H, N, d), the first norm included."""

    def out(self, y: Tensor) -> Tensor:
        """(B, H, N, d) to (B, N, C), the output projection."""

    def ffn(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C), the second norm included, the residual not."""


def run_block(
    block: Block, x: Tensor, method: DenseAttention, *, grid: tuple[int, int], num_prefix: int
) -> Tensor:
    """Run `block` on tokens (B, N, C) with its attention replaced by `method`'s; same shape out."""
    y = block.out(method.mix(*block.qkv(x), grid=grid, num_prefix=num_prefix))
    if method.residual:
        y = y + (x[:, :1] if method.residual == 'cls' else x)
    if method.ffn:
        y = y + block.ffn(y)
    return y


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, H*d) to (B, H, N, d)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, N, d) to (B, N, H*d)."""
    return x.transpose(1, 2).flatten(2)
