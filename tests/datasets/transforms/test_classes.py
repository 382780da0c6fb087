from __future__ import annotations

import numpy as np
import pytest

from mmseg_siglip.datasets.transforms import SelectClasses
from mmseg_siglip.text.vocabulary import Vocabulary


def test_by_hand():
    transform = SelectClasses(source=['sky', 'cat', 'dog', 'sea'], target=['dog', 'sky'])
    results = transform(dict(gt_seg_map=np.array([[0, 1, 2, 3, 255]], np.uint8)))
    assert results['gt_seg_map'].tolist() == [[1, 255, 0, 255, 255]]
    assert repr(transform) == 'SelectClasses(2 of 4 classes)'


def test_a_third_of_the_coloured_shapes_is_withheld():
    every = Vocabulary.load('shapes_pairs').names
    trained = Vocabulary.load('shapes_pairs_trained').names
    withheld = Vocabulary.load('shapes_pairs_withheld').names
    assert sorted(trained + withheld) == sorted(every)
    assert 3 * len(withheld) == len(every) - 5 and set(every[-5:]) <= set(trained)
    table = SelectClasses(source='shapes_pairs', target='shapes_pairs_trained').table
    assert (table == 255).sum() == 16
    assert all(trained[new] == every[old] for old, new in enumerate(table) if new != 255)


def test_refusals():
    with pytest.raises(ValueError, match="'owl' is none of the 2 classes of the source"):
        SelectClasses(source=['sky', 'cat'], target=['owl'])
    with pytest.raises(ValueError, match='found label 7 in x.png, the source has 2 classes'):
        SelectClasses(source=['sky', 'cat'], target=['cat'])(
            dict(gt_seg_map=np.array([[7]]), seg_map_path='x.png')
        )
    names = [f'c{i}' for i in range(300)]
    with pytest.raises(ValueError, match='SelectClasses: ignore_index=255 is one of the classes'):
        SelectClasses(source=names, target=names)
    table = SelectClasses(source=names, target=names[:299], ignore_index=65535).table
    assert table[[255, 299]].tolist() == [255, 65535]
