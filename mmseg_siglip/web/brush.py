"""Masks as Label Studio's brush keeps them: run lengths, packed bit by bit.

The format is that of https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack: 32 bits
with the number of values, 5 with the bits of a value less 1, four times 4 with the bits of a run's
length less 1; then for each run one bit (1: repeated), two bits that choose among those four, the
run's length less 1, and the value. The values are the mask's pixels, row after row, each four
times: red, green, blue and alpha.
"""

from __future__ import annotations

import numpy as np

CHANNELS = 4
VALUE_BITS = 8
LENGTH_BITS = (3, 4, 8, 16)
LONGEST = len(LENGTH_BITS) - 1


def encode_brush(mask: np.ndarray) -> list[int]:
    """A mask (H, W) bool as bytes of that format."""
    values = np.where(mask.ravel(), 255, 0)
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    lengths = CHANNELS * np.diff(starts, append=values.size)
    bits = [f'{CHANNELS * values.size:032b}', f'{VALUE_BITS - 1:05b}']
    bits += [f'{size - 1:04b}' for size in LENGTH_BITS]
    for length, value in zip(lengths.tolist(), values[starts].tolist(), strict=True):
        bits += _runs(length, f'{value:08b}')
    digits = np.frombuffer(''.join(bits).encode(), np.uint8) - ord('0')
    return np.packbits(digits).tolist()


def _runs(length: int, value: str) -> list[str]:
    longest = 1 << LENGTH_BITS[LONGEST]
    whole, rest = divmod(length, longest)
    runs = [f'1{LONGEST:02b}{"1" * LENGTH_BITS[LONGEST]}{value}'] * whole
    if rest:
        choice = next(i for i, size in enumerate(LENGTH_BITS) if rest <= 1 << size)
        runs.append(f'1{choice:02b}{rest - 1:0{LENGTH_BITS[choice]}b}{value}')
    return runs
