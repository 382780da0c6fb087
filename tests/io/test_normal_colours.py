"""Directions as colours: by hand, and back within eight bits."""

from __future__ import annotations

import numpy as np
import pytest

from mmseg_siglip.io.normal_colours import normal_colours, normals_of_colours


@pytest.mark.parametrize(
    ('normal', 'colour'),
    [((1, 0, 0), (255, 128, 128)), ((0, -1, 0), (128, 0, 128)), ((0, 0, 1), (128, 128, 255))],
)
def test_axes(normal, colour):
    assert normal_colours(np.float32(normal)).tolist() == list(colour)


def test_there_and_back():
    normals = np.random.default_rng(0).normal(size=(5, 7, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    found = normals_of_colours(normal_colours(normals))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, normals, atol=0.01)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize('colour', [(0, 0, 0), (127, 128, 127), (255, 255, 255)])
def test_black_grey_and_white_are_no_direction(colour):
    assert normals_of_colours(np.uint8([colour])).tolist() == [[0, 0, 0]]
