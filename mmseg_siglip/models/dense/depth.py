"""Which blocks of an encoder stand for those of the twelve that methods were published on."""

from __future__ import annotations

from collections.abc import Sequence

PUBLISHED_DEPTH = 12


def scaled_block(block: int, count: int) -> int:
    """The block, of `count`, at the depth of `block` of twelve; before the last one, if there is
    another."""
    return max(min(round(block * count / PUBLISHED_DEPTH), count - 2), 0)


def scaled_blocks(blocks: Sequence[int], count: int) -> tuple[int, ...]:
    """Several of them in rising order; those that fall together count once."""
    return tuple(sorted({scaled_block(block, count) for block in blocks}))


def some_blocks(blocks: Sequence[int] | None, name: str) -> None:
    """Refuse an empty choice of blocks; None stands for a method's own.

    Raises:
        ValueError: It is empty.
    """
    if blocks is not None and not len(blocks):
        raise ValueError(f'{name}: expected blocks None or at least one block, found {blocks}')
