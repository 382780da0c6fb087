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

GAUSSIAN_STD = 5.0


def vanilla(q: Tensor, k: Tensor, v: Tensor, **_) -> Tensor:
    """softmax(q kᵀ / √d) v, as the encoder was trained."""
    return scaled_dot_product_attention(q, k, v)


def identity(q: Tensor, k: Tensor, v: Tensor, **_) -> Tensor:
    """v: every patch keeps its own value. MaskCLIP, https://arxiv.org/abs/2112.01071."""
    return v


def correlative(q: Tensor, k: Tensor, v: Tensor, **_) -> Tensor:
    """softmax(q qᵀ / √d) v + softmax(k kᵀ / √d) v, a sum and not a mean.

    Correlative self-attention of SCLIP, https://arxiv.org/abs/2312.01597.
    """
    return scaled_dot_product_attention(q, q, v) + scaled_dot_product_attention(k, k, v)


def query_query(q: Tensor, k: Tensor, v: Tensor, **_) -> Tensor:
    """softmax(q qᵀ / √d) v. ClearCLIP, https://arxiv.org/abs/2407.12442."""
    return scaled_dot_product_attention(q, q, v)


def neighbour(q: Tensor, k: Tensor, v: Tensor, *, grid: tuple[int, int], num_prefix: int) -> Tensor:
    """softmax(k kᵀ / √d + G) v, G a Gaussian window around each patch.

    NACLIP, https://arxiv.org/abs/2404.08181.
    """
    bias = gaussian_bias(grid, num_prefix).to(device=k.device, dtype=k.dtype)
    return scaled_dot_product_attention(k, k, v, attn_mask=bias)


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
