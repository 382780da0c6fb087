"""Where classes begin, as far as values of label maps tell."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.datasets.first_value import LOOKED_INTO, contradiction, count_values


def maps(folder, *rows):
    paths = [folder / f'{index:03d}.png' for index in range(len(rows))]
    for path, row in zip(paths, rows, strict=True):
        Image.fromarray(np.uint8([row])).save(path)
    return [str(path) for path in paths]


def test_pixels_are_counted_and_what_is_damaged_is_passed_over(tmp_path):
    paths = maps(tmp_path, [0, 0, 7], [7, 255])
    (tmp_path / 'z.png').write_bytes(b'no picture')
    assert count_values([*paths, str(tmp_path / 'z.png')]) == {0: 2, 7: 2, 255: 1}


def test_of_many_the_first_the_last_and_some_between_are_read(tmp_path):
    paths = maps(tmp_path, *([index] for index in range(2 * LOOKED_INTO)))
    found = count_values(paths)
    assert len(found) == LOOKED_INTO and {0, 2 * LOOKED_INTO - 1} <= found.keys()


@pytest.mark.parametrize(
    ('row', 'first', 'reason'),
    [
        ([0, 1, 150], 1, ''),
        ([0, 1, 150], 0, 'expected label maps whose classes begin at 0, found 1: there is 150'),
        ([0, 149, 255], 0, ''),
        ([0, 149, 255], 1, 'begin at 1, found 0: there is 255 and no 150'),
        ([3, 4], 0, ''),
        ([3, 4], 1, ''),
    ],
)
def test_the_last_class_and_void_tell(tmp_path, row, first, reason):
    found = contradiction(maps(tmp_path, row), first, last=150, void=255)
    assert (reason in found) if reason else found == ''


@pytest.mark.parametrize(
    ('row', 'first', 'reason'),
    [
        ([0, 0, 1, 255], 1, ''),
        ([0, 0, 1, 255], 0, 'begin at 0, found 1: 1 pixels are 255 and 2 are 0'),
        ([0, 255, 255], 0, ''),
        ([0, 255, 255], 1, 'begin at 1, found 0: 2 pixels are 255 and 1 are 0'),
        ([0, 255], 0, ''),
    ],
)
def test_void_around_objects_is_less_than_the_ground(tmp_path, row, first, reason):
    found = contradiction(maps(tmp_path, row), first, last=20, void=255, outlines=True)
    assert (reason in found) if reason else found == ''
