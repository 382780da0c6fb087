"""Normals from depth on planes and spheres whose normals are known, and what is unknown."""

from __future__ import annotations

import numpy as np
import pytest

from mmseg_siglip.datasets.surface_normals import normals_from_depth

SIZE = (48, 64)
CAMERA = (70.0, 60.0, 30.0, 25.5)


def rays(size=SIZE, camera=CAMERA):
    """Directions (H, W, 3) of pixels: to the right, downwards, forwards by 1."""
    focal_x, focal_y, centre_x, centre_y = camera
    rows, columns = np.mgrid[: size[0], : size[1]].astype(float)
    return np.stack(
        [(columns - centre_x) / focal_x, (rows - centre_y) / focal_y, np.ones(size)], axis=-1
    )


def ours(towards):
    """A direction to the right, downwards, forwards as ours has it."""
    return np.asarray(towards) * [1, -1, -1]


def degrees(found, expected):
    cosine = (found * expected).sum(-1).clip(-1, 1)
    return np.degrees(np.arccos(cosine))


@pytest.mark.parametrize(
    'towards', [(0, 0, -1), (0.6, 0, -0.8), (0, -0.96, -0.28), (0.5, 0.5, -np.sqrt(0.5))]
)
@pytest.mark.parametrize('radius', [1, 2, 4])
def test_planes_are_exact(towards, radius):
    """Up to the very border of the picture."""
    direction = rays()
    with np.errstate(divide='ignore'):
        depth = -3.0 / (direction @ np.asarray(towards, float))
    seen = depth > 0
    assert seen.mean() > 0.5
    found = normals_from_depth(np.where(seen, depth, 0), CAMERA, radius=radius, jump=0.5)
    known = seen & (np.linalg.norm(found, axis=-1) > 0)
    assert known.sum() > 0.95 * seen.sum()
    assert degrees(found, ours(towards))[known].max() < 0.05
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1)[known], 1, atol=1e-6)
    assert (found[~seen] == 0).all()


def test_spheres_are_close():
    """Rays meet a sphere of radius 1.5 around (0.2, -0.1, 6)."""
    camera, centre, radius = (200.0, 210.0, 100.0, 90.0), np.array([0.2, -0.1, 6.0]), 1.5
    direction = rays((180, 200), camera)
    along = direction @ centre
    square = (direction**2).sum(-1)
    inside = along**2 - square * (centre @ centre - radius**2)
    depth = np.where(inside > 0, (along - np.sqrt(np.abs(inside))) / square, 0)
    expected = ours((direction * depth[..., None] - centre) / radius)
    found = normals_from_depth(depth, camera)
    slant = -(ours(direction) * expected).sum(-1) / np.sqrt(square)
    facing = (inside > 0) & (slant > 0.5)  # the rim is seen too slantwise for a plane
    assert facing.sum() > 5000
    error = degrees(found, expected)[facing]
    assert error.mean() < 0.2 and error.max() < 2
    assert (found[inside <= 0] == 0).all()


def test_a_step_bends_nothing():
    depth = np.full(SIZE, 4.0)
    depth[:, 30:] = 2.0
    found = normals_from_depth(depth, CAMERA)
    np.testing.assert_allclose(found, np.broadcast_to([0, 0, 1], found.shape), atol=1e-6)
    bent = normals_from_depth(depth, CAMERA, jump=2.0)
    assert degrees(bent, np.array([0, 0, 1.0])).max() > 10


def test_what_is_unknown_is_zero():
    depth = np.full((9, 9), 3.0)
    depth[4, 4], depth[0] = np.nan, np.inf
    found = normals_from_depth(depth, CAMERA)
    assert (found[4, 4] == 0).all() and (found[0] == 0).all()
    np.testing.assert_allclose(found[4, 3], [0, 0, 1], atol=1e-6)
    line = np.zeros((9, 9))
    line[4] = 3.0
    assert (normals_from_depth(line, CAMERA) == 0).all()
    assert (normals_from_depth(np.ones((1, 1)), CAMERA) == 0).all()


def test_the_scale_of_depth_has_no_effect():
    depth = np.random.default_rng(0).uniform(3, 3.1, SIZE)
    near, far = normals_from_depth(depth, CAMERA), normals_from_depth(1000 * depth, CAMERA)
    np.testing.assert_allclose(near, far, atol=1e-5)


@pytest.mark.parametrize('options', [dict(radius=0), dict(jump=0), dict(intrinsics=(0, 1, 0, 0))])
def test_bad_numbers_get_one_sentence(options):
    options = dict(intrinsics=CAMERA) | options
    with pytest.raises(ValueError, match='expected focal lengths, radius and jump above 0'):
        normals_from_depth(np.ones(SIZE), **options)
