"""Regions of an image in a file: a label map, or masks that may overlap.

Shapes: an image of (H, W) pixels, M masks.
"""

from __future__ import annotations

import io
import zipfile
from math import prod
from typing import BinaryIO

import numpy as np

from mmseg_siglip.io.image import MAX_PIXELS, decode_labels

MAX_BYTES = 2**31
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
        max_pixels: Largest width x height that is decoded; of arrays, also at most `MAX_BYTES`.

    Returns:
        (H, W) int64, or (M, H, W) bool.

    Raises:
        ValueError: The file holds something else.
    """
    if data[: len(NPY)] != NPY and data[: len(ZIP)] != ZIP:
        return decode_labels(data, name, max_pixels=max_pixels).astype(np.int64)
    found = _array(data, name, max_pixels)
    whole = np.issubdtype(found.dtype, np.integer)
    if found.ndim == 2 and (whole or found.dtype == bool) and (found >= 0).all():
        return found.astype(np.int64)
    if found.ndim == 3 and (whole or found.dtype == bool) and ((found == 0) | (found == 1)).all():
        return found.astype(bool)
    raise ValueError(
        f'{name}: expected regions as a label map (H, W) of integers from 0 or masks (M, H, W) of '
        f'0 and 1, found {found.dtype} of shape {found.shape}'
    )


def _array(data: bytes, name: str, max_pixels: int) -> np.ndarray:
    try:
        if data[: len(NPY)] == NPY:
            _check_claim(io.BytesIO(data), max_pixels)
        else:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for member in archive.namelist():
                    with archive.open(member) as file:
                        _check_claim(file, max_pixels)
        found = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        if len(found.files) == 1:
            return found[found.files[0]]
        held = ', '.join(found.files) or 'none'
    except Exception as error:  # readers of damaged archives raise nearly every built-in type
        raise ValueError(f'{name} cannot be read as regions: {error}') from None
    raise ValueError(f'{name}: expected one array of regions, found {held}')


def _check_claim(file: BinaryIO, max_pixels: int) -> None:
    """Refuse an array by its header, before room is made for it."""
    major, _ = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if major > 1:
        read = np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    if prod(shape[-2:]) > max_pixels or prod(shape) * kind.itemsize > MAX_BYTES:
        raise ValueError(
            f'expected maps of at most {max_pixels} pixels and {MAX_BYTES} bytes, found the shape '
            f'{shape} of {kind}'
        )
