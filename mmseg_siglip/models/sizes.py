"""What a user may give for a size."""

from __future__ import annotations

from collections.abc import Sequence


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
