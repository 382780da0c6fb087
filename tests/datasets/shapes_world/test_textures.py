import cv2
import numpy as np
import pytest

from mmseg_siglip.datasets.shapes_world.textures import TEXTURES, value_noise


def coordinates(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[:height, :width].astype(np.float32) + 0.5
    return columns / min(height, width), rows / min(height, width)


def draw(name: str, seed: int, height: int, width: int) -> np.ndarray:
    return TEXTURES[name](np.random.default_rng(seed), *coordinates(height, width))


@pytest.mark.parametrize('name', TEXTURES)
def test_a_texture_varies_within_the_range_of_colours(name):
    picture = draw(name, 0, 60, 90)
    assert picture.shape == (60, 90, 3)
    assert picture.min() > -0.05 and picture.max() < 1.05
    assert picture.std(axis=(0, 1)).max() > 0.03


@pytest.mark.parametrize('name', TEXTURES)
def test_a_texture_comes_from_its_generator_alone(name):
    np.testing.assert_array_equal(draw(name, 3, 40, 40), draw(name, 3, 40, 40))
    assert np.abs(draw(name, 3, 40, 40) - draw(name, 4, 40, 40)).mean() > 0.01


@pytest.mark.parametrize('name', TEXTURES)
def test_a_texture_looks_alike_at_any_size(name):
    """A large drawing, shrunk, is nearer to the small one than another seed's is."""
    small = draw(name, 5, 64, 96)
    large = cv2.resize(draw(name, 5, 256, 384), (96, 64), interpolation=cv2.INTER_AREA)
    other = cv2.resize(draw(name, 6, 256, 384), (96, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(small - large).mean() < 0.8 * np.abs(small - other).mean()


def test_mean_colours_tell_the_grounds_apart():
    means = {n: np.mean([draw(n, s, 48, 48).mean((0, 1)) for s in range(5)], 0) for n in TEXTURES}
    grass, water, sand = means['grass'], means['water'], means['sand']
    assert grass.argmax() == 1 and water.argmax() == 2 and sand.min() > 0.5


def test_value_noise_is_smooth_and_centred():
    u, _ = coordinates(100, 150)
    noise = value_noise(np.random.default_rng(0), u, (5, 5))
    assert abs(noise.mean()) < 0.25 and noise.std() > 0.2
    assert np.abs(np.diff(noise, axis=1)).max() < 0.2
