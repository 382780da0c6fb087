"""Attention whose weights are made by hand, some queries at a time.

Shapes: B images, H heads, N tokens, M queries of a chunk, d per head.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mmseg_siglip.models.backbones.block import CHUNK_BYTES
from mmseg_siglip.models.backbones.trunk import Trunk

RowsOf = Callable[[slice], Tensor]
"""Queries to their weights (B, H, M, N), or one for all heads (B, 1, M, N)."""


def logits_of(q: Tensor, k: Tensor) -> RowsOf:
    """Rows of q kᵀ / √d, float32; `q` and `k` are (B, H, N, d)."""
    keys = k.transpose(-1, -2)
    return lambda chunk: (q[..., chunk, :] * q.shape[-1] ** -0.5 @ keys).float()


def maps_of(trunk: Trunk, block: int, pairs: str = 'qk') -> RowsOf:
    """Rows of a block's softmaxed maps, added up.

    Args:
        trunk: Its input is held from then on.
        block: The block.
        pairs: What meets what, such as ``qk``, or ``qq kk`` for the sum of two maps.
    """
    parts = dict(zip('qkv', trunk.qkv(block, trunk.input(block)), strict=True))
    logits = [logits_of(parts[query], parts[key]) for query, key in pairs.split()]
    return lambda chunk: sum(rows(chunk).softmax(-1) for rows in logits)


def mean_maps(maps: list[RowsOf], *, heads: bool) -> RowsOf:
    """The mean of several blocks' maps, head by head, or with ``heads=False`` of all heads."""

    def rows(chunk: slice) -> Tensor:
        mean = sum(part(chunk) for part in maps) / len(maps)
        return mean if heads else mean.mean(1, keepdim=True)

    return rows


def attend_by_rows(rows: RowsOf, v: Tensor) -> Tensor:
    """Weights times values (B, H, N, d); they exist for a chunk of queries at a time."""
    count = v.shape[-2]
    step = max(1, CHUNK_BYTES // (4 * v[..., 0].numel()))
    parts = [rows(slice(first, first + step)).to(v.dtype) @ v for first in range(0, count, step)]
    return torch.cat(parts, dim=-2)


def scaled_blocks(blocks: tuple[int, ...], trunk: Trunk) -> tuple[int, ...]:
    """Middle blocks that were published for 12, from 0, at the same depth of another encoder, in
    front of its last; those that fall together count once."""
    count = len(trunk.blocks)
    return tuple(sorted({min(round(block * count / 12), max(count - 2, 0)) for block in blocks}))
