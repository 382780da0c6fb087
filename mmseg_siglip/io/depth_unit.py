"""What the 16-bit depth maps written here say of their unit, so that none is read by another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmseg_siglip.io.files import image_bytes, write_atomically
from mmseg_siglip.io.image_claims import Refused

UNIT = 'depth units per metre'
"""Key of the PNG's text."""
RELATIVE = 'none, relative inverse depth'


def depth_bytes(units: np.ndarray, *, per_metre: float | None) -> bytes:
    """(H, W) uint16 as PNG.

    Args:
        units: 0 where depth is unknown.
        per_metre: Units of a metre; None of relative depth, which has none.
    """
    about = PngInfo()
    about.add_text(UNIT, RELATIVE if per_metre is None else f'{per_metre!r}')
    return image_bytes(Image.fromarray(units), pnginfo=about)


def write_depth(units: np.ndarray, path: str | Path, *, per_metre: float | None) -> None:
    """Write `depth_bytes`, whole or not at all."""
    write_atomically(depth_bytes(units, per_metre=per_metre), path)


def check_unit(info: Mapping, name: str, per_metre: float | None) -> None:
    """Refuse a file that says it has another unit, or none.

    Args:
        info: What Pillow read beside the pixels.
        name: The file.
        per_metre: Units that it is taken to have in a metre; None if that is not known.

    Raises:
        Refused: It says so.
    """
    said = info.get(UNIT)
    if said == RELATIVE:
        raise Refused(f'{name}: expected metric depth, found relative depth, which has no unit')
    if per_metre is None or not isinstance(said, str):
        return
    try:
        found = float(said)
    except ValueError:
        return
    if not math.isclose(found, per_metre, rel_tol=1e-6):
        raise Refused(
            f'{name}: expected {per_metre:g} units per metre, found a file that says it has '
            f'{found:g}'
        )


def is_one_of(units: np.ndarray, values: Sequence[float]) -> np.ndarray:
    """(H, W) bool: where a depth map holds one of some values; of floats at its own precision, in
    which 0.1 of 32 bits is not Python's 0.1."""
    wanted = np.asarray(values, float)
    if np.issubdtype(units.dtype, np.floating):
        wanted = wanted.astype(units.dtype)
    return np.isin(units, wanted)
