"""What a user may give for a size."""

from __future__ import annotations

from collections.abc import Sequence

MOST_SIDE = 8192
"""Pixels of a side that a checkpoint may ask for: such a picture in float32 fills 0.8 GB."""


def check_size_asked(size: Sequence[int], where: str) -> tuple[int, int]:
    """(height, width) in pixels that a checkpoint asks for.

    Raises:
        ValueError: They are not two numbers from 1 to `MOST_SIDE`; the sentence begins with
            `where`.
    """
    sides = tuple(size)
    if [*map(type, sides)] != [int, int] or not 0 < min(sides) <= max(sides) <= MOST_SIDE:
        raise ValueError(
            f'{where}: expected a height and a width of 1 to {MOST_SIDE} pixels, found {sides}'
        )
    return sides


def pair(
    value: int | Sequence[int], name: str, *, least: int = 1, unit: str = 'pixels'
) -> tuple[int, int]:
    """(rows, columns) from a pair, or from one side of a square.

    Raises:
        ValueError: It is neither, or a side is less than `least`; the sentence begins with `name`.
    """
    sides = (value, value) if isinstance(value, int) else value
    if not isinstance(sides, Sequence) or [*map(type, sides)] != [int, int]:
        raise ValueError(f'{name}: expected a side or (rows, columns) in {unit}, found {value!r}')
    if min(sides) < least:
        raise ValueError(f'{name}: expected {least} or more {unit}, found {value!r}')
    return tuple(sides)
