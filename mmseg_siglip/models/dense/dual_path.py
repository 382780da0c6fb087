"""A second path beside an encoder's last blocks, which gathers what their attentions alone add.

CLIP Surgery (https://arxiv.org/abs/2304.05653) has it, and GEM after it. The path begins where the
first of the blocks does. Each adds what its attention, replaced, makes of the *ordinary* path's
tokens, without the feed-forward part; the ordinary path goes on as it was trained. Where a norm
ends a block, residual and all, as DINOv3's does within dino.txt, it ends the path's block, too.

Shapes: B images, H heads, N tokens, d per head, C channels.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mmseg_siglip.models.backbones.trunk import Trunk

DUAL_BLOCKS = 6
"""Of 12 and of 24 in both papers' code."""

MixOf = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""The block's normed tokens (B, N, C), and queries, keys and values (B, H, N, d), to the latter."""


def dual_path(trunk: Trunk, blocks: int, mix: MixOf) -> Tensor:
    """The second path at its end, (B, N, C).

    Args:
        trunk: The ordinary path.
        blocks: How many of the last blocks have two; all where there are fewer.
        mix: What takes the place of attention.
    """
    count = len(trunk.blocks)
    first = max(count - blocks, 0)
    path = trunk.input(first)
    for i in range(first, count):
        block = trunk.blocks[i]
        normed = block.norm(trunk.input(i))
        path = path + block.out(mix(normed, *block.qkv(normed, trunk.grid)))
        final = getattr(block, 'final', None)
        path = path if final is None else final(path)
    return path


def check_dual_blocks(blocks: int) -> int:
    """`blocks`, if there is one at least.

    Raises:
        ValueError: There is none.
    """
    if blocks < 1:
        raise ValueError(f'blocks: expected 1 or more, found {blocks}')
    return blocks
