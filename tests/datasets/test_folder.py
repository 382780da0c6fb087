from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.datasets import FolderDataset
from mmseg_siglip.datasets.transforms import LoadAnnotations


def labels(folder, values, **arguments):
    (folder / 'a.jpg').touch()
    Image.fromarray(np.array([values], np.uint8)).save(folder / 'a.png')
    prefix = dict(img_path=str(folder), seg_map_path=str(folder))
    dataset = FolderDataset(vocabulary=['cat', 'dog, puppy'], data_prefix=prefix, **arguments)
    assert dataset.metainfo['classes'] == ('cat', 'dog')
    return LoadAnnotations().transform(dataset[0])['gt_seg_map'].tolist()[0]


def test_values_are_class_indices(tmp_path):
    assert labels(tmp_path, [0, 1, 255]) == [0, 1, 255]


def test_own_values(tmp_path):
    values = dict(label_values=[17, 0], void_values=[1, 2])
    assert labels(tmp_path, [17, 0, 1, 2, 255], **values) == [0, 1, 255, 255, 255]


def test_unknown_value_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r'a\.png holds label 2, which the dataset does not define'
    ):
        labels(tmp_path, [0, 2])


RED, BLUE, WHITE = (200, 0, 0), (0, 0, 200), (255, 255, 255)
PAINTED = dict(label_colours=[RED, BLUE], void_colours=[WHITE])


def test_colours_are_classes(tmp_path):
    """Red and blue are not exchanged."""
    assert labels(tmp_path, [RED, WHITE, BLUE, RED], **PAINTED) == [0, 255, 1, 0]


def test_colours_of_a_palette(tmp_path):
    picture = Image.fromarray(np.array([[7, 3, 9]], np.uint8))
    picture.putpalette([0] * 9 + [*RED] + [0] * 9 + [*BLUE] + [0] * 3 + [*WHITE])
    picture.save(tmp_path / 'a.png')
    (tmp_path / 'a.jpg').touch()
    prefix = dict(img_path=str(tmp_path), seg_map_path=str(tmp_path))
    dataset = FolderDataset(vocabulary=['cat', 'dog'], data_prefix=prefix, **PAINTED)
    assert LoadAnnotations().transform(dataset[0])['gt_seg_map'].tolist() == [[1, 0, 255]]


def test_predictions_are_drawn_in_these_colours():
    dataset = FolderDataset(vocabulary=['cat', 'dog'], lazy_init=True, **PAINTED)
    assert dataset.metainfo['palette'] == [list(RED), list(BLUE)]


def test_unknown_colour_is_refused(tmp_path):
    sentence = (
        r'a\.png: expected colours of label_colours or void_colours, found \(0, 0, 199\) in row 0, '
        r'column 2, and such in 1 of 3 pixels; the nearest is \(0, 0, 200\)'
    )
    with pytest.raises(ValueError, match=sentence):
        labels(tmp_path, [RED, BLUE, (0, 0, 199)], **PAINTED)


def test_a_picture_without_its_colours_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r'a\.png is a label map with mode RGB.*label_colours'):
        labels(tmp_path, [RED, BLUE])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(label_colours=[RED]), '1 label_colours for the 2 classes'),
        (dict(void_colours=[RED]), '0 label_colours for the 2 classes'),
        (dict(label_colours=[RED, RED]), r'label_colours\[1\]: \(200, 0, 0\) is there already'),
        (dict(PAINTED, void_colours=[BLUE]), r'void_colours\[0\]: .* is there already'),
        (dict(label_colours=[RED, (0, 0, 256)]), r'label_colours\[1\]: expected red, green and'),
        (dict(label_colours=[RED, 'blue']), r"label_colours\[1\]: expected red.*found 'blue'"),
        (dict(PAINTED, label_values=[0, 1]), 'found both'),
        (dict(PAINTED, reduce_zero_label=True), 'found both'),
        (dict(label_values=[1]), '1 label_values for the 2 classes'),
        (dict(label_values=[1, 1]), 'must all differ'),
        (dict(void_values=[1]), 'must all differ'),
        (dict(ignore_index=1), "ignore_index=1 is the index of class 'dog'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FolderDataset(vocabulary=['cat', 'dog'], lazy_init=True, **arguments)
