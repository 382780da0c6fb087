"""Signed distances of the ShapesWorld shapes.

Every shape is described in its own frame: x to the right, y upwards, inside the unit circle, which
it touches. A distance is negative inside; its sign is exact everywhere, its value near an edge.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Field = np.ndarray  # (H, W) float32

SQUARE_HALF = np.sqrt(0.5)
RING_INNER = 0.55
CROSS_HALF_WIDTH = 1 / 3
CROSS_HALF_LENGTH = np.sqrt(1 - CROSS_HALF_WIDTH**2)
STAR_INNER = 0.45
CRESCENT_BITE = (0.5, 0.8)  # centre x and radius of the disc taken away
HEART_LIFT = 0.26  # centre of the smallest enclosing circle, in half diagonals of the square
HEART_HALF_DIAGONAL = 1 / (np.hypot(0.5, 0.5 - HEART_LIFT) + SQUARE_HALF)


def _disc(x: Field, y: Field, radius: float) -> Field:
    return np.hypot(x, y) - radius


def _box(x: Field, y: Field, half_x: float, half_y: float) -> Field:
    return np.maximum(np.abs(x) - half_x, np.abs(y) - half_y)


def circle(x: Field, y: Field) -> Field:
    return _disc(x, y, 1.0)


def square(x: Field, y: Field) -> Field:
    return _box(x, y, SQUARE_HALF, SQUARE_HALF)


def triangle(x: Field, y: Field) -> Field:
    """Equilateral, one corner upwards; its inscribed circle has radius 1/2."""
    slant = np.sqrt(0.75) * np.abs(x) + 0.5 * y
    return np.maximum(slant, -y) - 0.5


def star(x: Field, y: Field) -> Field:
    """Five points; folded into the half sector between a point and the notch beside it."""
    sector = np.pi / 5
    radius = np.hypot(x, y)
    angle = np.abs((np.arctan2(x, y) + sector) % (2 * sector) - sector)
    notch_x, notch_y = STAR_INNER * np.cos(sector), STAR_INNER * np.sin(sector)
    length = np.hypot(1 - notch_x, notch_y)
    normal_x, normal_y = notch_y / length, (1 - notch_x) / length
    return (radius * np.cos(angle) - 1) * normal_x + radius * np.sin(angle) * normal_y


def ring(x: Field, y: Field) -> Field:
    middle, half_width = (1 + RING_INNER) / 2, (1 - RING_INNER) / 2
    return np.abs(np.hypot(x, y) - middle) - half_width


def cross(x: Field, y: Field) -> Field:
    return np.minimum(
        _box(x, y, CROSS_HALF_LENGTH, CROSS_HALF_WIDTH),
        _box(x, y, CROSS_HALF_WIDTH, CROSS_HALF_LENGTH),
    )


def heart(x: Field, y: Field) -> Field:
    """A square on its corner with a half disc on each of its upper sides."""
    half = HEART_HALF_DIAGONAL
    y = y + HEART_LIFT * half
    x = np.abs(x)
    diamond = (x + np.abs(y) - half) * SQUARE_HALF
    return np.minimum(diamond, _disc(x - half / 2, y - half / 2, half * SQUARE_HALF))


def crescent(x: Field, y: Field) -> Field:
    centre, radius = CRESCENT_BITE
    return np.maximum(_disc(x, y, 1.0), -_disc(x - centre, y, radius))


SIGNED_DISTANCE: dict[str, Callable[[Field, Field], Field]] = {
    function.__name__: function
    for function in (circle, square, triangle, star, ring, cross, heart, crescent)
}


def signed_distance(
    shape: str,
    columns: Field,
    rows: Field,
    *,
    centre: tuple[float, float],
    radius: float,
    rotation: float,
) -> Field:
    """Distance of picture points to the edge of a placed shape.

    Args:
        shape: One of ``SIGNED_DISTANCE``.
        columns: x of the points, pixels, rightwards.
        rows: y of the points, pixels, downwards.
        centre: (x, y) of the unit circle's centre, pixels.
        radius: Radius of the circle around the shape, pixels.
        rotation: Counter-clockwise as seen in the picture, radians.

    Returns:
        Pixels, negative inside.
    """
    x, y = (columns - centre[0]) / radius, (centre[1] - rows) / radius
    cosine, sine = np.float32(np.cos(rotation)), np.float32(np.sin(rotation))
    return SIGNED_DISTANCE[shape](cosine * x + sine * y, cosine * y - sine * x) * radius
