from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_siglip.models.windows.grid import Windows, window_starts
from mmseg_siglip.models.windows.test_cfg import check_test_cfg, window_defaults


@pytest.mark.parametrize(
    ('size', 'windows'),
    [((336, 448), (2, 3)), ((448, 597), (3, 5)), ((560, 1120), (4, 9)), ((100, 224), (1, 1))],
)
def test_counts_of_the_reference(size, windows):
    assert tuple(len(window_starts(side, 224, 112)) for side in size) == windows
    found = Windows.of(size, dict(mode='slide', crop_size=(224, 224), stride=(112, 112)))
    assert len(found) == len(found.boxes) == windows[0] * windows[1] and not found.whole
    assert found.size == (min(size[0], 224), min(size[1], 224))


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


def test_crops_lie_where_the_windows_do_row_by_row():
    image = torch.arange(3 * 5 * 7).view(3, 5, 7)
    windows = Windows([0, 2], [0, 3, 4], (3, 3))
    corners = [(y, x) for y in (0, 2) for x in (0, 3, 4)]
    assert windows.boxes == [(y, x, 3, 3) for y, x in corners]
    crops = list(windows.crops(image))
    assert len(crops) == len(windows) == 6
    for crop, (y, x) in zip(crops, corners, strict=True):
        assert torch.equal(crop, image[:, y : y + 3, x : x + 3])


def test_the_whole_image_is_one_window():
    windows = Windows.of((5, 7), dict(mode='whole', crop_size=(3, 3), stride=(1, 1)))
    assert windows.whole and windows.boxes == [(0, 0, 5, 7)]


@st.composite
def sides(draw, longest):
    """Pixels of one side of an image, of a window and of a step."""
    crop = draw(st.integers(1, longest))
    return draw(st.integers(1, longest)), crop, draw(st.integers(1, crop))


@settings(max_examples=500)
@given(sides(5000))
def test_windows_of_any_size_and_stride_leave_no_gap(side):
    length, crop, stride = side
    starts = window_starts(length, crop, stride)
    size = min(length, crop)
    assert starts[0] == 0 and starts[-1] + size == length
    assert all(0 < later - start <= size for start, later in pairwise(starts))
    assert all(start % stride == 0 for start in starts[:-1])


@settings(max_examples=100)
@given(sides(40), sides(40))
def test_every_pixel_of_any_image_is_in_a_window(rows, columns):
    size, crop, stride = zip(rows, columns, strict=True)
    config = check_test_cfg(dict(crop_size=crop, stride=stride), window_defaults((32, 32)))
    windows, seen = Windows.of(size, config), torch.zeros(size)
    for part in windows.crops(seen):
        assert part.shape == windows.size
        part += 1
    assert seen.min() >= 1 and seen.sum() == len(windows) * windows.size[0] * windows.size[1]
