"""Masks as Label Studio reads them."""

from __future__ import annotations

import numpy as np


def unpack(packed: list[int]) -> np.ndarray:
    """The values of thi-ng's rle-pack, which is the format of its brush, bit by bit."""
    bits = ''.join(f'{byte:08b}' for byte in packed)
    at = 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    number, value_bits = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values = []
    while len(values) < number:
        repeated, length = read(1), read(sizes[read(2)]) + 1
        if repeated:
            values += [read(value_bits)] * length
        else:
            values += [read(value_bits) for _ in range(length)]
    return np.array(values)
