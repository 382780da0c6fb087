import label_maps
import numpy as np
import pytest
from labelled import fill
from PIL import Image

from mmseg_siglip.api.segmentation import Segmentation
from mmseg_siglip.labelling.exports.yolo import yolo

CLASSES = ('cat', 'dog', 'grass')


def results(names):
    rng = np.random.default_rng(0)
    found = {}
    for index, name in enumerate(names):
        labels = rng.integers(0, 3, (12, 10 + index))
        image = np.zeros((*labels.shape, 3), np.uint8)
        found[name] = Segmentation(labels, np.ones(labels.shape, np.float32), CLASSES, image)
    return found


def test_it_is_read_by_the_converter_of_yolo(tmp_path):
    found = results(['a.jpg', 'b/ü.png'])
    assert yolo(fill(tmp_path, found), tmp_path) == []
    for name, expected in found.items():
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(expected.image).save(path)
    names, drawings = label_maps.yolo(tmp_path)
    assert tuple(names) == CLASSES
    drawn = {drawing.stem: drawing.draw() for drawing in drawings}
    assert (drawn['a'] == found['a.jpg'].labels).all()
    assert (drawn['b/ü'] == found['b/ü.png'].labels).all()


def test_two_images_of_one_text_file_are_refused(tmp_path):
    tables = fill(tmp_path, results(['a.jpg', 'b.jpg', 'a.png']))
    with pytest.raises(ValueError, match=r'labels/a\.txt is of two images, a\.jpg and a\.png'):
        yolo(tables, tmp_path)
    assert not (tmp_path / 'labels').exists()
