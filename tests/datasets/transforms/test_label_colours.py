from __future__ import annotations

import numpy as np
import pytest

from mmseg_siglip.datasets.transforms.label_colours import colour_table, labels_of_colours

COLOURS = [[0, 0, 0], [128, 0, 0], [0, 0, 128], [0, 1, 0]]


def labels(pixels, void_colours=(), ignore_index=255):
    table = colour_table(COLOURS, void_colours, ignore_index)
    found = labels_of_colours(np.array([pixels], np.uint8), table, 'a.png')
    assert found.dtype == np.int32 and found.shape == (1, len(pixels))
    return found[0].tolist()


def test_each_colour_is_its_class():
    assert labels([COLOURS[i] for i in (1, 0, 3, 2, 1)]) == [1, 0, 3, 2, 1]
    white = [255, 255, 255]
    assert labels([white, COLOURS[2]], [white]) == [255, 2]
    assert labels([white], [white], ignore_index=99) == [99]


def test_every_colour_of_a_full_table_is_found():
    """Against a plain search, pixel by pixel."""
    rng = np.random.default_rng(0)
    every = [tuple(c) for c in np.unique(rng.integers(0, 256, (300, 3)), axis=0).tolist()]
    rng.shuffle(every)
    every = [tuple(map(int, colour)) for colour in every]
    chosen = rng.integers(0, len(every), 500).tolist()
    table = colour_table(every, (), 65535)
    picture = np.array([every[i] for i in chosen], np.uint8).reshape(20, 25, 3)
    found = labels_of_colours(picture, table, 'a.png')
    plain = [every.index(tuple(pixel)) for pixel in picture.reshape(-1, 3).tolist()]
    assert found.ravel().tolist() == plain == chosen


@pytest.mark.parametrize('colour', [[255, 255, 255], [0, 0, 1], [127, 0, 0]])
def test_another_colour_is_refused(colour):
    with pytest.raises(ValueError, match=rf'^a\.png: .*\({", ".join(map(str, colour))}\) in row 0'):
        labels([COLOURS[0], colour])
