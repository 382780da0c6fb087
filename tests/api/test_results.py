import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from mmseg_siglip.api.results import Segmentation, class_colours

LABELS = np.array([[0, 0, 2], [0, 2, 2], [2, 2, 2]])


@pytest.fixture
def result():
    scores = np.where(LABELS == 2, 0.75, 0.5).astype(np.float32)
    image = np.full((3, 3, 3), 100, np.uint8)
    return Segmentation(LABELS, scores, ('sky', 'cat', 'road'), image)


def test_found_by_size(result):
    assert result.found == [2, 0]


def test_saved_labels_come_back(result, tmp_path):
    result.save(tmp_path / 'x.png')
    saved = Image.open(tmp_path / 'x.png')
    assert saved.mode == 'P' and np.array_equal(np.array(saved), LABELS)
    assert np.array_equal(np.array(saved.convert('RGB')), result.palette[LABELS])


def test_many_classes_are_saved_in_16_bits(tmp_path):
    labels = np.array([[0, 300]])
    names = tuple(str(i) for i in range(301))
    image = np.zeros((1, 2, 3), np.uint8)
    Segmentation(labels, np.ones((1, 2)), names, image).save(tmp_path / 'x.png')
    assert np.array(Image.open(tmp_path / 'x.png')).tolist() == [[0, 300]]


def test_coco_rle(result):
    road, sky = result.to_coco_rle()
    assert (road['category_id'], road['category'], road['area']) == (2, 'road', 6)
    assert road['score'] == pytest.approx(0.75) and sky['score'] == pytest.approx(0.5)
    assert sky['bbox'] == [0, 0, 2, 2]
    assert np.array_equal(coco_mask.decode(road['segmentation']), LABELS == 2)


def test_supervision(result):
    supervision = pytest.importorskip('supervision')
    detections = result.to_supervision()
    assert isinstance(detections, supervision.Detections)
    assert detections.class_id.tolist() == [2, 0]
    assert np.array_equal(detections.mask[1], LABELS == 0)
    assert detections.data['class_name'].tolist() == ['road', 'sky']


def test_supervision_missing(result, monkeypatch):
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(ImportError):
        result.to_supervision()


def test_picture_has_the_image_and_a_legend(result):
    picture = np.array(result.plot())
    assert picture.shape[0] > 3 and picture.shape[1] == 3
    tinted = 0.45 * 100 + 0.55 * result.palette[2].astype(float)
    np.testing.assert_allclose(picture[2, 2], tinted, atol=1)


def test_colours_differ():
    colours = class_colours(200)
    assert len({tuple(colour) for colour in colours}) > 150
    assert np.abs(np.diff(class_colours(20).astype(int), axis=0)).sum(1).min() > 60
