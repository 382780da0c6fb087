"""Surface normals as colours."""

from __future__ import annotations

import numpy as np


def normal_colours(normals: np.ndarray) -> np.ndarray:
    """x, y and z (..., 3) from -1 to 1 as red, green and blue from 0 to 255, uint8."""
    return ((normals + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
