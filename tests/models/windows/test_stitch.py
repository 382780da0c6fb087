import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import slide
from torch.nn.functional import grid_sample, interpolate

from mmseg_siglip.models.backbones.planes import Planes
from mmseg_siglip.models.windows import stitch as sliding
from mmseg_siglip.models.windows.grid import Windows, window_starts
from mmseg_siglip.models.windows.stitch import (
    Side,
    Stitch,
    enlarged,
    resize_matrix,
    stitch_matrix,
    upsample_matrix,
)


@pytest.mark.parametrize(('out', 'size'), [(32, 4), (4, 32), (7, 7), (50, 33), (1, 9), (9, 1)])
def test_resize_matrix_is_bilinear(out, size):
    x = torch.randn(size, dtype=torch.float64)
    expected = interpolate(x.view(1, 1, 1, size), size=(1, out), mode='bilinear').flatten()
    torch.testing.assert_close(resize_matrix(out, size) @ x, expected)


def test_upsample_cuts_padding_and_repeats_the_border():
    exact = resize_matrix(24, 3)
    torch.testing.assert_close(upsample_matrix(20, 3, 24), exact[:20])
    longer = upsample_matrix(27, 3, 24)
    torch.testing.assert_close(longer[:24], exact)
    torch.testing.assert_close(longer[24:], exact[-1:].expand(3, -1))


@pytest.mark.parametrize('size', [(40, 72), (32, 32), (24, 56), (45, 33), (27, 90)])
@pytest.mark.parametrize('out', [(40, 72), (97, 50)])
@pytest.mark.parametrize('finer', [1, 2, 3])
def test_two_matrices_equal_the_sequential_canvas(size, out, finer):
    """Every pixel, against windows added up one by one on a full canvas; their cells are patches
    or parts of them."""
    torch.manual_seed(0)
    crop, stride, patch = 32, 16, 8
    image = torch.randn(3, *size)

    def cells(window):
        grid = [-(-side // patch) * finer for side in window.shape[1:]]
        return torch.nn.functional.adaptive_avg_pool2d(window[None], grid)[0]

    def padded(window):
        """Cells at the size of whole patches, and the part of them that lies in the window."""
        found, sides = cells(window), window.shape[1:]
        span = [-(-side // patch) * patch for side in sides]
        return interpolate(found[None], size=span, mode='bilinear')[0, :, : sides[0], : sides[1]]

    config = dict(mode='slide', crop_size=(crop, crop), stride=(stride, stride))
    windows = Windows.of(size, config)
    found = torch.stack([cells(window) for window in windows.crops(image)])
    found = found.unflatten(0, (len(windows.rows), len(windows.columns)))
    span = tuple(-(-side // patch) * patch for side in windows.size)
    expected = interpolate(slide(image, crop, stride, padded)[None], size=out, mode='bilinear')[0]
    pixels = Stitch.over(found, windows, span, out).rows(0, out[0])
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize('out', [(40, 72), (97, 50), (5, 9), (3, 200)])
def test_a_whole_image_is_enlarged_in_one_step(out):
    cells, windows = torch.randn(1, 1, 6, 5, 9), Windows([0], [0], (40, 72), whole=True)
    expected = interpolate(cells[0], size=out, mode='bilinear')[0]
    pixels = Stitch.over(cells, windows, (40, 72), out).rows(0, out[0])
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize('size', [(33, 70), (39, 65), (43, 72)])
@pytest.mark.parametrize('out', [(33, 70), (97, 50), (12, 200)])
def test_a_whole_image_is_what_its_grid_shows_of_it(size, out):
    """A side that the patch does not divide was padded, or its last pixels were left out: each
    pixel of the output is looked up where it lies on the grid of whole patches."""
    cells, windows = torch.randn(1, 1, 6, 5, 9), Windows([0], [0], size, whole=True)
    span = (40, 72)
    places = [
        (torch.arange(n) + 0.5) / n * side / spanned * 2 - 1
        for n, side, spanned in zip(out, size, span, strict=True)
    ]
    y, x = torch.meshgrid(*places, indexing='ij')
    grid = torch.stack([x, y], dim=-1)[None]
    expected = grid_sample(cells[0], grid, padding_mode='border', align_corners=False)[0]
    pixels = Stitch.over(cells, windows, span, out).rows(0, out[0])
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)


def test_any_rows_alone_equal_the_whole(monkeypatch):
    matrices = [
        stitch_matrix([0, 8, 16], 16, 32, upsample_matrix(16, 2, 16), out) for out in (50, 70)
    ]
    sides = [Side.of(matrix, torch.device('cpu')) for matrix in matrices]
    stitch = Stitch.of(torch.randn(3, 3, 5, 2, 2), *sides)
    whole = stitch.down @ stitch.planes @ stitch.across.T
    for block in (7, 70, 256):
        monkeypatch.setattr(sliding, 'BLOCK', block)
        for first, last in [(0, 50), (10, 20), (49, 50)]:
            torch.testing.assert_close(stitch.rows(first, last), whole[:, first:last])


@pytest.mark.parametrize('whole', [True, False])
def test_planes_on_demand_equal_those_at_hand(whole):
    """Each window makes the rows that are asked for, and no others than its own."""
    windows = Windows([0, 8, 16], [0, 8], (16, 16))
    if whole:
        windows = Windows([0], [0], (32, 24), whole=True)
    cells = torch.randn(len(windows.rows), len(windows.columns), 3, 6, 5)
    asked = []

    def planes(one):
        def rows(first, last):
            assert 0 <= first < last <= 6
            asked.append(last - first)
            return one[:, first:last]

        return Planes((6, 5), rows)

    span = windows.size
    expected = Stitch.over(cells, windows, span, (50, 70))
    found = Stitch.over([[*map(planes, row)] for row in cells], windows, span, (50, 70))
    for first, last in [(0, 50), (10, 20), (49, 50)]:
        torch.testing.assert_close(found.rows(first, last), expected.rows(first, last))
    assert max(asked[-len(windows.columns) :]) < 6


@pytest.mark.parametrize('size', [(40, 72), (3, 200), (7, 7)])
def test_enlarged(size):
    cells = torch.randn(6, 5, 9)
    expected = interpolate(cells[None], size=size, mode='bilinear')[0]
    torch.testing.assert_close(enlarged(cells, size).rows(0, size[0]), expected, atol=1e-5, rtol=0)


def test_mean_of_constants_is_constant():
    matrix = stitch_matrix([0, 8], 16, 24, upsample_matrix(16, 2, 16), 50)
    torch.testing.assert_close(matrix.sum(1), torch.ones(50))


@settings(max_examples=100)
@given(st.data())
def test_any_windows_weigh_one_in_each_pixel(data):
    """Nothing gets lost on the way from cells to pixels, whatever the sizes."""
    crop = data.draw(st.integers(1, 40), 'crop')
    stride = data.draw(st.integers(1, crop), 'stride')
    patch = data.draw(st.integers(1, crop), 'patch')
    length, out = (data.draw(st.integers(1, 120), name) for name in ('length', 'out'))
    size = min(crop, length)
    for cells in {max(size // patch, 1), -(-size // patch)}:
        starts = window_starts(length, crop, stride)
        upsample = upsample_matrix(size, cells, cells * patch)
        matrix = stitch_matrix(starts, size, length, upsample, out)
        assert matrix.shape == (out, len(starts) * cells) and matrix.min() >= 0
        torch.testing.assert_close(matrix.sum(1), torch.ones(out))
