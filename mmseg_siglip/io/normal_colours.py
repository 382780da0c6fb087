"""Surface normals as colours, and back."""

from __future__ import annotations

import numpy as np

UNIT = 0.2
"""How far from 1 a normal's length in a picture may be: eight bits give up to 0.01, and what stands
for none, black, grey or white, is 0.7 away at least."""


def normal_colours(normals: np.ndarray) -> np.ndarray:
    """x, y and z (..., 3) from -1 to 1 as red, green and blue from 0 to 255, uint8."""
    return ((normals + 1) * 127.5).round().clip(0, 255).astype(np.uint8)


def normals_of_colours(colours: np.ndarray) -> np.ndarray:
    """The reverse: float32 of length 1, and zeros where a colour (..., 3) is no direction."""
    normals = colours.astype(np.float32) / 127.5 - 1
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    known = np.abs(length - 1) < UNIT
    return np.where(known, normals / np.where(known, length, 1), 0)
