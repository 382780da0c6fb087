"""How many of 16 bits the values of a file use, and the numbers behind Pillow's."""

from __future__ import annotations

import numpy as np
from PIL import Image

BITS_PER_SAMPLE, MAX_SAMPLE_VALUE = 258, 281  # tags of TIFF
FULL = 16


def used_bits(image: Image.Image, data: bytes = b'') -> int:
    """The lowest bits that the file says its 16-bit values fill: 9 to 16.

    A TIFF says so by ``BitsPerSample``, or by a ``MaxSampleValue`` of 2^n - 1, a PNG by the chunk
    ``sBIT``. Values of a PGM are scaled to 16 bits by Pillow.

    Args:
        image: Opened.
        data: The file, if there is one.
    """
    bits = FULL
    if image.format == 'TIFF':
        (bits, *_) = np.atleast_1d(image.tag_v2.get(BITS_PER_SAMPLE, FULL))
        largest = int(np.max(image.tag_v2.get(MAX_SAMPLE_VALUE, 0)))
        if largest & (largest + 1) == 0 and largest > 255:
            bits = min(bits, largest.bit_length())
    elif image.format == 'PNG':
        bits = _png_bits(data)
    return int(bits) if 8 < bits < FULL else FULL


def _png_bits(data: bytes) -> int:
    at = 8
    while len(data) >= at + 9 and (kind := data[at + 4 : at + 8]) != b'IDAT':
        if kind == b'sBIT':
            return data[at + 8]
        at += 12 + int.from_bytes(data[at : at + 4], 'big')
    return FULL


def eight_bits(grey: np.ndarray, bits: int, *, scaled: bool) -> np.ndarray:
    """The highest 8 of the lowest `bits` of 16-bit values, uint8.

    All 16 are used if a value fills more than `bits`.

    Args:
        grey: Values, uint16.
        bits: See `used_bits`.
        scaled: Whether the values may have been scaled to 16 bits, as PNG wants it and not every
            program does it: so they are if no value fills what lies below the highest `bits`.
    """
    below = (1 << (FULL - bits)) - 1
    if grey.max() >> bits or (scaled and not (grey & below).any()):
        bits = FULL
    return (grey >> (bits - 8)).astype(np.uint8)


def largest_of_ppm(image: Image.Image) -> tuple[int, int]:
    """The largest value that an opened PPM says it may hold, and what Pillow makes of it."""
    scaled = 65535 if image.mode == 'I' else 255
    (tile, *_) = image.tile or [None]
    by_its_own = tile is not None and tile[0] in ('ppm', 'ppm_plain') and image.mode != '1'
    return (tile[3][-1] if by_its_own else scaled), scaled
