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


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(label_values=[1]), '1 label_values for the 2 classes'),
        (dict(label_values=[1, 1]), 'must all differ'),
        (dict(void_values=[1]), 'must all differ'),
        (dict(ignore_index=1), "ignore_index=1 is the index of class 'dog'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FolderDataset(vocabulary=['cat', 'dog'], lazy_init=True, **arguments)
