"""What blocks in the middle of an encoder attend to, in the place of its last attention.

Shapes: B images, H heads, N tokens, d per head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmseg_siglip.device import at_once
from mmseg_siglip.models.backbones.block import CHUNK_BYTES, attend
from mmseg_siglip.models.backbones.trunk import Trunk


def attend_as(
    trunk: Trunk, blocks: Sequence[int], v: Tensor, pairs: Sequence[str] = ('qk',)
) -> Tensor:
    """The mean of several blocks' maps, times values (B, H, N, d) of the last attention.

    Head j takes the maps of head j. The pooling head's are others than the trunk's: there each
    takes the mean over all.

    Args:
        trunk: Gives the blocks' queries and keys; ask it to `Trunk.open` them first.
        blocks: The blocks.
        v: The values.
        pairs: What meets what in a block, such as ``qk``; the maps of several are added up.
    """
    total = 0
    for block in sorted(map(trunk.index, blocks)):
        parts = dict(zip('qkv', trunk.opened(block), strict=True))
        for query, key in pairs:
            if trunk.surroundings.site == 'trunk':
                total = total + attend(parts[query], parts[key], v)
            else:
                total = total + attend_by_mean(parts[query], parts[key], v)
    return total / len(blocks)


def attend_by_mean(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The mean over heads of softmax(q kᵀ / √d), times the values of other heads (B, H, N, d); some
    queries at a time."""
    step = at_once(4 * q[..., 0].numel(), q.device, CHUNK_BYTES)
    keys, parts = k.transpose(-1, -2), []
    for part in (q * q.shape[-1] ** -0.5).split(step, dim=-2):
        parts.append((part @ keys).softmax(-1).mean(1, keepdim=True).to(v.dtype) @ v)
    return torch.cat(parts, dim=-2)
