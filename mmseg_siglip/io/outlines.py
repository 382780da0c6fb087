"""Masks as polygons along the edges of their pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """The connected parts of a mask, a polygon each.

    Corners are those of pixels, so COCO's rasteriser gives the mask again. A hole is cut open: the
    outline goes there and back along one line.

    Args:
        mask: (H, W) bool.

    Returns:
        (N, 2) int each, x and y of the corners; x is in [0, W], y in [0, H].
    """
    doubled = np.kron(mask.astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, parents = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return []
    rings = [(contour[:, 0] + 1) // 2 for contour in contours]
    above = parents[0, :, 3]
    found = []
    for index in np.flatnonzero(above == -1):
        holes = [rings[hole] for hole in np.flatnonzero(above == index)]
        found.append(_cut_open(rings[index], holes))
    return found


def _cut_open(ring: np.ndarray, holes: Sequence[np.ndarray]) -> np.ndarray:
    for hole in holes:
        ring = np.concatenate([ring, ring[:1], hole, hole[:1], ring[:1]])
    return ring
