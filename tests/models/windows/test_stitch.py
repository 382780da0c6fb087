import pytest
import torch
from oracles import slide
from torch.nn.functional import interpolate

from mmseg_siglip.models.windows import stitch as sliding
from mmseg_siglip.models.windows.stitch import (
    Stitch,
    resize_matrix,
    stitch_matrix,
    upsample_matrix,
    window_starts,
)


@pytest.mark.parametrize(
    ('size', 'windows'),
    [((336, 448), (2, 3)), ((448, 597), (3, 5)), ((560, 1120), (4, 9)), ((100, 224), (1, 1))],
)
def test_counts_of_the_reference(size, windows):
    assert tuple(len(window_starts(side, 224, 112)) for side in size) == windows


def test_last_window_is_shifted_inwards():
    assert window_starts(300, 224, 112) == [0, 76]
    assert window_starts(180, 224, 112) == [0]


@pytest.mark.parametrize('length', range(1, 60, 7))
@pytest.mark.parametrize(('crop', 'stride'), [(16, 8), (16, 16), (9, 4), (5, 1)])
def test_every_pixel_is_in_a_window(length, crop, stride):
    seen = torch.zeros(length)
    for start in window_starts(length, crop, stride):
        assert 0 <= start <= max(length - crop, 0)
        seen[start : start + crop] += 1
    assert seen.min() >= 1


@pytest.mark.parametrize(('out', 'size'), [(32, 4), (4, 32), (7, 7), (50, 33), (1, 9), (9, 1)])
def test_resize_matrix_is_bilinear(out, size):
    x = torch.randn(size, dtype=torch.float64)
    expected = interpolate(x.view(1, 1, 1, size), size=(1, out), mode='bilinear').flatten()
    torch.testing.assert_close(resize_matrix(out, size) @ x, expected)


def test_upsample_cuts_padding_and_repeats_the_border():
    exact = resize_matrix(24, 3)
    torch.testing.assert_close(upsample_matrix(20, 3, 8), exact[:20])
    longer = upsample_matrix(27, 3, 8)
    torch.testing.assert_close(longer[:24], exact)
    torch.testing.assert_close(longer[24:], exact[-1:].expand(3, -1))


@pytest.mark.parametrize('size', [(40, 72), (32, 32), (24, 56), (45, 33), (16, 90)])
@pytest.mark.parametrize('out', [(40, 72), (97, 50)])
def test_two_matrices_equal_the_sequential_canvas(size, out):
    """Every pixel, against windows added up one by one on a full canvas."""
    torch.manual_seed(0)
    crop, stride, patch = 32, 16, 8
    image = torch.randn(3, *size)

    def patches(window):
        rows, columns = -(-window.shape[1] // patch), -(-window.shape[2] // patch)
        return torch.nn.functional.adaptive_avg_pool2d(window[None], (rows, columns))[0]

    starts = [window_starts(side, crop, stride) for side in size]
    crops = [min(crop, side) for side in size]
    windows = torch.stack(
        [
            torch.stack([patches(image[:, y : y + crops[0], x : x + crops[1]]) for x in starts[1]])
            for y in starts[0]
        ]
    )
    down, across = (
        stitch_matrix(start, crop, side, upsample_matrix(crop, cells, patch), end)
        for start, crop, side, cells, end in zip(
            starts, crops, size, windows.shape[3:], out, strict=True
        )
    )
    expected = interpolate(slide(image, crop, stride, patches)[None], size=out, mode='bilinear')[0]
    pixels = Stitch.of(windows, down, across).rows(0, out[0])
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)


def test_any_rows_alone_equal_the_whole(monkeypatch):
    matrices = [
        stitch_matrix([0, 8, 16], 16, 32, upsample_matrix(16, 2, 8), out) for out in (50, 70)
    ]
    stitch = Stitch.of(torch.randn(3, 3, 5, 2, 2), *matrices)
    whole = stitch.down @ stitch.planes @ stitch.across.T
    for block in (7, 70, 256):
        monkeypatch.setattr(sliding, 'BLOCK', block)
        for first, last in [(0, 50), (10, 20), (49, 50)]:
            torch.testing.assert_close(stitch.rows(first, last), whole[:, first:last])


def test_mean_of_constants_is_constant():
    matrix = stitch_matrix([0, 8], 16, 24, upsample_matrix(16, 2, 8), 50)
    torch.testing.assert_close(matrix.sum(1), torch.ones(50))
