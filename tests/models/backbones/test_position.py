import pytest
import torch
from torch.nn.functional import interpolate

from mmseg_siglip.models.backbones.position import (
    blend_position,
    resize_position,
    sample_position,
)

POSITION = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))


def test_native_grid_is_untouched():
    assert resize_position(POSITION, (4, 4), (4, 4)) is POSITION


def test_same_count_other_shape_is_resampled():
    resized = resize_position(POSITION, (4, 4), (2, 8))
    assert resized.shape == POSITION.shape
    assert not torch.allclose(resized, POSITION)


@pytest.mark.parametrize('antialias', [False, True])
@pytest.mark.parametrize('grid', [(5, 9), (2, 3), (4, 7), (1, 1), (3, 1)])
def test_equals_interpolation_of_each_channel(grid, antialias):
    """PyTorch 2.11 antialiases onto one column wrongly where channels lie last in memory."""
    resized = resize_position(POSITION, (4, 4), grid, antialias=antialias)
    for channel in range(6):
        plane = POSITION[:, channel].reshape(1, 1, 4, 4)
        expected = interpolate(plane, size=grid, mode='bicubic', antialias=antialias).flatten()
        torch.testing.assert_close(resized[:, channel], expected)


@pytest.mark.parametrize('grid', [(5, 9), (2, 3), (27, 27), (1, 50)])
def test_offset_moves_sampling_points_and_keeps_the_grid(grid):
    moved = resize_position(POSITION, (4, 4), grid, offset=0.1)
    assert moved.shape == (grid[0] * grid[1], 6)
    assert not torch.equal(moved, resize_position(POSITION, (4, 4), grid))


def test_half_precision_is_resampled_in_float32():
    half = resize_position(POSITION.half(), (4, 4), (6, 5))
    assert half.dtype == torch.float16
    full = resize_position(POSITION.half().float(), (4, 4), (6, 5))
    torch.testing.assert_close(half.float(), full, atol=2e-3, rtol=0)


@pytest.mark.parametrize('mode', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('grid', [(4, 4), (4, 9), (9, 4), (2, 3), (11, 7), (1, 1)])
def test_computed_places_are_those_of_interpolation(mode, grid):
    """What a graph for any size has instead."""
    expected = resize_position(POSITION, (4, 4), grid, mode=mode, offset=0.1)
    found = sample_position(POSITION, (4, 4), grid, mode=mode, offset=0.1)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize('antialias', [False, True])
@pytest.mark.parametrize('grid', [(4, 4), (4, 9), (9, 4), (2, 3), (11, 7), (1, 1), (1, 50)])
def test_products_are_those_of_interpolation(grid, antialias):
    """What a graph for any size has instead."""
    plane = POSITION.T.reshape(1, 6, 4, 4).contiguous()
    expected = torch.cat(
        [
            interpolate(c[None], size=grid, mode='bilinear', antialias=antialias)
            for c in plane[0][:, None]
        ]
    )
    found = blend_position(POSITION, (4, 4), grid, antialias=antialias)
    torch.testing.assert_close(found, expected.flatten(1).T, atol=1e-6, rtol=0)
