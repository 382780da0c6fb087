from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.datasets.transforms import LoadColouredLabels

COLOURS = [[0, 0, 0], [128, 0, 0], [0, 0, 128], [0, 1, 0]]


def load(tmp_path, pixels, *, ori_shape=None, **options):
    path = tmp_path / 'labels.png'
    Image.fromarray(np.array([pixels], np.uint8)).save(path)
    results = dict(seg_map_path=str(path), **(dict(ori_shape=ori_shape) if ori_shape else {}))
    found = LoadColouredLabels(colours=COLOURS, **options).transform(results)
    assert found['seg_fields'] == ['gt_seg_map'] and found['gt_seg_map'].dtype == np.int32
    return found['gt_seg_map'].tolist()[0]


def test_colours_are_classes(tmp_path):
    """Red and blue are not exchanged."""
    pixels = [COLOURS[i] for i in (1, 0, 3, 2, 1)]
    assert load(tmp_path, pixels, ori_shape=(1, 5)) == [1, 0, 3, 2, 1]
    white = [255, 255, 255]
    assert load(tmp_path, [white, COLOURS[2]], void_colours=[white]) == [255, 2]
    assert load(tmp_path, [white], void_colours=[white], ignore_index=99) == [99]


def test_what_is_refused(tmp_path):
    for colour in ([255, 255, 255], [0, 0, 1], [127, 0, 0]):
        with pytest.raises(ValueError, match=rf'labels\.png holds the colour \{colour}'):
            load(tmp_path, [COLOURS[0], colour])
    with pytest.raises(ValueError, match=r'expected the size \(2, 1\)'):
        load(tmp_path, [COLOURS[0]], ori_shape=(2, 1))
    with pytest.raises(ValueError, match='colours that all differ'):
        LoadColouredLabels(colours=COLOURS, void_colours=[[0, 1, 0]])
    with pytest.raises(ValueError, match='ignore_index=3 is one of the 4 classes'):
        LoadColouredLabels(colours=COLOURS, ignore_index=3)
