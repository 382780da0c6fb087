"""Regions of an image in a file: a label map, or masks that may overlap.

Shapes: an image of (H, W) pixels, M masks.
"""

from __future__ import annotations

import io
import math
import zipfile
from typing import IO

import numpy as np

from mmseg_siglip.io.image import MAX_PIXELS, decode_labels

MANY = 10  # bytes for each pixel of the largest image
NPY, ZIP = b'\x93NUMPY', b'PK'


def encode_regions(regions: np.ndarray) -> bytes:
    """A compressed ``.npz`` of a label map (H, W) or of masks (M, H, W) bool."""
    file = io.BytesIO()
    np.savez_compressed(file, regions=regions)
    return file.getvalue()


def decode_regions(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read regions.

    Args:
        data: Of a ``.npy``, a ``.npz`` of one array, or an image of one channel (see
            `decode_labels`). Arrays are a label map (H, W) of integers from 0, which is none, or
            masks (M, H, W), bool or of 0 and 1.
        name: Of the file, for messages.
        max_pixels: Largest width x height of an image that is decoded; arrays have at most `MANY`
            times that in bytes.

    Returns:
        (H, W) int64, or (M, H, W) bool.

    Raises:
        ValueError: The file holds something else.
    """
    if data[: len(NPY)] != NPY and data[: len(ZIP)] != ZIP:
        return decode_labels(data, name, max_pixels=max_pixels).astype(np.int64)
    found = _array(data, name, MANY * max_pixels)
    whole = np.issubdtype(found.dtype, np.integer)
    if found.ndim == 2 and (whole or found.dtype == bool) and (found >= 0).all():
        return found.astype(np.int64)
    if found.ndim == 3 and (whole or found.dtype == bool) and ((found == 0) | (found == 1)).all():
        return found.astype(bool)
    raise ValueError(
        f'{name}: expected regions as a label map (H, W) of integers from 0 or masks (M, H, W) of '
        f'0 and 1, found {found.dtype} of shape {found.shape}'
    )


def _array(data: bytes, name: str, most: int) -> np.ndarray:
    try:
        if data[: len(NPY)] == NPY:
            return _of_at_most(io.BytesIO(data), most)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            if len(names) == 1:
                with archive.open(names[0]) as file:
                    return _of_at_most(file, most)
    except Exception as error:  # of a damaged file, zipfile and numpy raise many kinds
        raise ValueError(f'{name} cannot be read as regions: {error or "damaged"}') from None
    held = ', '.join(part.removesuffix('.npy') for part in names) or 'none'
    raise ValueError(f'{name}: expected one array of regions, found {held}')


def _of_at_most(file: IO[bytes], most: int) -> np.ndarray:
    """Read an array whose header claims no more than `most` bytes."""
    start = file.tell()
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[np.lib.format.read_magic(file)]
    shape, _, dtype = read_header(file)
    if math.prod(shape) * dtype.itemsize > most:
        raise ValueError(f'expected at most {most} bytes, found {dtype} of shape {shape}')
    file.seek(start)
    return np.lib.format.read_array(file, allow_pickle=False)
