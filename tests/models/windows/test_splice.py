import pytest
import torch

from mmseg_siglip.models.windows.grid import Windows
from mmseg_siglip.models.windows.splice import splice


def boxes_of(size, crop, stride):
    config = dict(mode='slide', crop_size=(crop, crop), stride=(stride, stride))
    return Windows.of(size, config).boxes


def by_pixels(maps, boxes, patch, extent, grid):
    """Each pixel of each window in turn, in float64."""
    total = torch.zeros(maps.shape[1], *grid, dtype=torch.float64)
    count = torch.zeros(grid, dtype=torch.float64)
    for cells, (top, left, height, width) in zip(maps.double(), boxes, strict=True):
        for y in range(height):
            for x in range(width):
                i, j = min(y // patch, cells.shape[1] - 1), min(x // patch, cells.shape[2] - 1)
                k, m = min((top + y) // patch, grid[0] - 1), min((left + x) // patch, grid[1] - 1)
                total[:, k, m] += cells[:, i, j]
                count[k, m] += 1
    assert count.sum() >= extent[0] * extent[1]
    return (total / count)[None].float()


@pytest.mark.parametrize(
    ('size', 'crop', 'stride', 'cells', 'grid'),
    [
        ((40, 56), 24, 16, (3, 3), (5, 7)),  # multiples of the patch
        ((45, 61), 24, 13, (3, 3), (6, 8)),  # none
        ((19, 45), 24, 8, (3, 3), (3, 6)),  # one side padded
        ((45, 61), 23, 13, (2, 2), (5, 7)),  # cells that stop short, in windows and in the image
    ],
)
def test_equals_one_pixel_after_another(size, crop, stride, cells, grid):
    boxes = boxes_of(size, crop, stride)
    maps = torch.randn(len(boxes), 4, *cells, generator=torch.Generator().manual_seed(0))
    found = splice(maps, boxes, 8, size, grid=grid)
    torch.testing.assert_close(found, by_pixels(maps, boxes, 8, size, grid), atol=1e-6, rtol=1e-6)


def test_at_multiples_of_the_patch_it_adds_and_divides():
    boxes = [(0, 0, 16, 16), (0, 8, 16, 16)]
    maps = torch.arange(8.0).reshape(2, 1, 2, 2)
    assert splice(maps, boxes, 8, (16, 24)).tolist() == [[[[0, 2.5, 5], [2, 4.5, 7]]]]


def test_a_window_alone_is_the_map():
    maps = torch.randn(1, 3, 4, 5).bfloat16()
    assert torch.equal(splice(maps, [(0, 0, 50, 64)], 14, (50, 64)), maps)
    short = torch.randn(1, 3, 27, 27)
    found = splice(short, [(0, 0, 384, 384)], 14, (384, 384), grid=(27, 27))
    torch.testing.assert_close(found, short)


def test_gradients_reach_every_window():
    boxes = boxes_of((45, 61), 24, 13)
    maps = torch.randn(len(boxes), 2, 3, 3, requires_grad=True)
    splice(maps, boxes, 8, (45, 61)).square().sum().backward()
    assert maps.grad.flatten(1).any(1).all()
