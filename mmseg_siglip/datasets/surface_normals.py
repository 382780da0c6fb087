"""Surface normals from depth: what a data set that measured depth knows about orientation.

Shapes: maps of (H, W) pixels.
"""

from __future__ import annotations

import numpy as np

Intrinsics = tuple[float, float, float, float]
"""Focal lengths (x, y) and principal point (x, y) of a pinhole camera, in pixels; the centre of the
first pixel is (0, 0)."""

FLAT = 0.5  # a determinant of whole numbers, 0 where pixels lie on a line


def normals_from_depth(
    depth: np.ndarray, intrinsics: Intrinsics, *, radius: int = 2, jump: float = 0.05
) -> np.ndarray:
    """The plane through the pixels around each, by least squares.

    Inverse depth of a plane is linear in the pixel's place, whatever its slope, so that planes come
    out exactly. Around a pixel count those of about its own depth, so that a plane does not bend
    round the edge of what stands in front.

    Args:
        depth: (H, W), metres along the optical axis; what is not positive and finite is unknown.
        intrinsics: Of the camera.
        radius: Pixels that are looked at to each side.
        jump: Part of a pixel's depth by which another may differ to count.

    Returns:
        (H, W, 3) float32, of length 1: x to the right, y upwards, z towards the viewer, so that
        what faces the camera is (0, 0, 1). Zeros where depth is unknown, or too few pixels around
        it to lie a plane through.

    Raises:
        ValueError: A focal length, the radius or the jump is not above 0.
    """
    focal_x, focal_y, centre_x, centre_y = intrinsics
    if min(focal_x, focal_y, radius, jump) <= 0:
        raise ValueError(
            'normals: expected focal lengths, radius and jump above 0, found '
            f'{focal_x}, {focal_y}, {radius} and {jump}'
        )
    depth = depth.astype(np.float64)
    known = np.isfinite(depth) & (depth > 0)
    depth = np.where(known, depth, 1)
    slope_x, slope_y, level, fits = _fit(*_sums(1 / depth, depth, known, radius, jump))
    rows, columns = np.mgrid[: depth.shape[0], : depth.shape[1]]
    # 1 / depth = a x + b y + c for rays (x, y, 1): the plane's normal, away from the camera.
    normal = np.stack(
        [
            slope_x * focal_x,
            slope_y * focal_y,
            level + slope_x * (centre_x - columns) + slope_y * (centre_y - rows),
        ],
        axis=-1,
    )
    length = np.linalg.norm(normal, axis=-1)
    valid = known & fits & (length > 0)
    normal = normal / np.where(valid, length, 1)[..., None] * [-1, 1, 1]
    return np.where(valid[..., None], normal, 0).astype(np.float32)


def _sums(
    inverse: np.ndarray, depth: np.ndarray, known: np.ndarray, radius: int, jump: float
) -> np.ndarray:
    """Sums of 1, x, y, xx, xy, yy, d, xd and yd over the pixels that count around each, (9, H, W);
    x and y from its own place, d their inverse depth."""
    height, width = depth.shape
    sums = np.zeros((9, height, width))
    for y in range(-radius, radius + 1):
        for x in range(-radius, radius + 1):
            here = _inside(height, y), _inside(width, x)
            there = _inside(height, -y), _inside(width, -x)
            near = np.abs(depth[there] - depth[here]) <= jump * depth[here]
            counts = known[here] & known[there] & near
            value = np.where(counts, inverse[there], 0)
            for total, factor in zip(sums, (1, x, y, x * x, x * y, y * y), strict=False):
                total[here] += factor * counts
            for total, factor in zip(sums[6:], (1, x, y), strict=True):
                total[here] += factor * value
    return sums


def _inside(length: int, offset: int) -> slice:
    """The pixels of a side that have another so far from them."""
    return slice(max(0, -offset), max(0, length - max(0, offset)))


def _fit(
    n: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    xx: np.ndarray,
    xy: np.ndarray,
    yy: np.ndarray,
    d: np.ndarray,
    xd: np.ndarray,
    yd: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Slopes and level of each pixel's plane by Cramer's rule, and where there is one."""
    det = xx * (yy * n - y * y) - xy * (xy * n - x * y) + x * (xy * y - yy * x)
    fits = det > FLAT
    det = np.where(fits, det, 1)
    slope_x = (xd * (yy * n - y * y) - xy * (yd * n - y * d) + x * (yd * y - yy * d)) / det
    slope_y = (xx * (yd * n - y * d) - xd * (xy * n - x * y) + x * (xy * d - yd * x)) / det
    level = (xx * (yy * d - y * yd) - xy * (xy * d - x * yd) + xd * (xy * y - yy * x)) / det
    return slope_x, slope_y, level, fits
