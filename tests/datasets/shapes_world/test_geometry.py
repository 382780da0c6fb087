import numpy as np
import pytest

from mmseg_siglip.datasets.shapes_world.geometry import (
    CRESCENT_BITE,
    HEART_HALF_DIAGONAL,
    SIGNED_DISTANCE,
    signed_distance,
)

FINE = (np.arange(2000) + 0.5) / 1000 - 1
X, Y = np.meshgrid(FINE, -FINE)


def lens(distance: float, first: float, second: float) -> float:
    """Area common to two discs, https://mathworld.wolfram.com/Circle-CircleIntersection.html."""
    a = np.arccos((distance**2 + first**2 - second**2) / (2 * distance * first))
    b = np.arccos((distance**2 + second**2 - first**2) / (2 * distance * second))
    kite = (
        (-distance + first + second)
        * (distance + first - second)
        * (distance - first + second)
        * (distance + first + second)
    )
    return first**2 * a + second**2 * b - 0.5 * np.sqrt(kite)


AREAS = {
    'circle': np.pi,
    'square': 2.0,
    'triangle': 0.75 * np.sqrt(3),
    'star': 10 * 0.5 * 0.45 * np.sin(np.pi / 5),
    'ring': np.pi * (1 - 0.55**2),
    'cross': 8 * np.sqrt(8) / 3 / 3 - 4 / 9,
    'heart': HEART_HALF_DIAGONAL**2 * (2 + np.pi / 2),
    'crescent': np.pi - lens(CRESCENT_BITE[0], 1.0, CRESCENT_BITE[1]),
}


@pytest.mark.parametrize('shape', SIGNED_DISTANCE)
def test_area_is_that_of_the_formula(shape):
    area = (SIGNED_DISTANCE[shape](X, Y) < 0).mean() * 4
    assert area == pytest.approx(AREAS[shape], rel=2e-3)


@pytest.mark.parametrize('shape', SIGNED_DISTANCE)
def test_shape_fills_the_unit_circle_and_stays_inside(shape):
    inside = SIGNED_DISTANCE[shape](X, Y) < 0
    assert np.hypot(X, Y)[inside].max() == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize(
    'shape, inside, outside',
    [
        ('circle', (0.0, 0.99), (0.71, 0.72)),
        ('square', (0.70, 0.70), (0.0, 0.72)),
        ('triangle', (0.0, 0.95), (0.0, -0.52)),
        ('star', (0.0, 0.95), (0.0, -0.5)),
        ('ring', (0.0, 0.6), (0.0, 0.5)),
        ('cross', (0.9, 0.3), (0.5, 0.5)),
        ('heart', (0.0, -0.95), (0.0, 0.7)),
        ('crescent', (-0.5, 0.0), (0.0, 0.0)),
    ],
)
def test_known_points(shape, inside, outside):
    distance = SIGNED_DISTANCE[shape](*np.array([inside, outside]).T)
    assert distance[0] < 0 < distance[1]


@pytest.mark.parametrize('shape', SIGNED_DISTANCE)
def test_distance_near_an_edge_is_in_pixels(shape):
    rows, columns = np.mgrid[:200, :200].astype(np.float32) + 0.5
    placed = dict(centre=(100, 100), radius=80, rotation=0.4)
    distance = signed_distance(shape, columns, rows, **placed)
    slope = np.hypot(*np.gradient(distance))
    assert np.median(slope[np.abs(distance) < 3]) == pytest.approx(1, abs=0.02)


def test_rotation_is_counter_clockwise_in_the_picture():
    """The upward tip of a triangle, a quarter turn on, points to the left."""
    at = dict(centre=(50.0, 50.0), radius=40.0, rotation=np.pi / 2)
    left, right = (
        signed_distance('triangle', np.array([x]), np.array([50.0]), **at) for x in (12.0, 88.0)
    )
    assert left < 0 < right
