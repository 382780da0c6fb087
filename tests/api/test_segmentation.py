import json
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmseg_siglip.api.segmentation import Referred, Segmentation

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


def coco_truth(masks):
    """A COCO data set of one image a mask: image ids 70, 71, ...; category 11 is what is there."""
    truth = COCO()
    truth.dataset = dict(
        images=[dict(id=70 + i, height=len(m), width=len(m[0])) for i, m in enumerate(masks)],
        categories=[dict(id=11, name='there'), dict(id=12, name='elsewhere')],
        annotations=[
            dict(id=1 + i, image_id=70 + i, category_id=11, iscrowd=0, area=int(m.sum()))
            | dict(segmentation=coco_mask.encode(np.asfortranarray(m.astype(np.uint8))))
            | dict(bbox=coco_mask.toBbox(coco_mask.encode(np.asfortranarray(m.astype(np.uint8)))))
            for i, m in enumerate(masks)
        ],
    )
    truth.createIndex()
    return truth


@pytest.mark.parametrize('by_file', [False, True])
def test_pycocotools_takes_the_entries_as_results(result, mask, tmp_path, by_file):
    phrase = Referred(mask, 0.5, 'the cup', np.zeros((2, 3, 3), np.uint8))
    masks = [LABELS == 2, mask]
    entries = [e for e in result.to_coco_rle(70, category_ids=[12, 13, 11]) if e['score'] > 0.6]
    entries += phrase.to_coco_rle(71, category_id=11)
    if by_file:
        (tmp_path / 'results.json').write_text(json.dumps(entries))
        entries = str(tmp_path / 'results.json')
    truth = coco_truth(masks)
    loaded = truth.loadRes(entries)
    assert [a['area'] for a in loaded.loadAnns(loaded.getAnnIds())] == [6, 3]  # not of the boxes
    evaluation = COCOeval(truth, loaded, 'segm')
    evaluation.params.catIds = [11]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_as_many_ids_as_classes(result):
    with pytest.raises(ValueError, match='one for each of 3 classes, found 2'):
        result.to_coco_rle(70, category_ids=[1, 2])


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


def test_a_tint_by_hand(result):
    """0.25 of grey 100, 0.75 of a colour; a colour by numbers and by CSS names."""
    palette = dict(sky=(200, 0, 40), Road='#00ff80')
    picture = np.array(result.plot(opacity=0.75, palette=palette))[:3]
    assert picture[0, 0].tolist() == [175, 25, 55]
    assert picture[2, 2].tolist() == [25, 216, 121]
    assert np.array(result.plot(opacity=0))[:3].tolist() == result.image.tolist()
    bare = np.array(result.plot(opacity=1, palette=['red', (9, 9, 9), np.array([0, 0, 255])]))[:3]
    assert bare[0].tolist() == [[255, 0, 0], [255, 0, 0], [0, 0, 255]]


def test_outlines_by_hand():
    """Both sides of a border have their class's colour."""
    labels = np.zeros((4, 5), int)
    labels[:, 3:] = 1
    image = np.full((4, 5, 3), 100, np.uint8)
    found = Segmentation(labels, np.ones((4, 5)), ('cat', 'dog'), image)
    palette = np.array([[200, 0, 0], [0, 0, 200]])
    picture = np.array(found.plot(opacity=0.5, outlines=True, palette=palette))[:4, :5]
    row = [[150, 50, 50], [150, 50, 50], [200, 0, 0], [0, 0, 200], [50, 50, 150]]
    assert picture.tolist() == [row] * 4


def test_names_on_the_picture():
    """Where a class is widest, in the picture, and nowhere else."""
    labels = np.zeros((100, 200), int)
    labels[40:, :70] = 1
    image = np.full((100, 200, 3), 100, np.uint8)
    found = Segmentation(labels, np.ones((100, 200)), ('ground', 'cat'), image)
    plain, named = (np.array(found.plot(labels=labels))[:100] for labels in (False, True))
    changed = (plain != named).any(-1)
    rows, columns = np.nonzero(changed & (labels == 1))
    assert abs(rows.mean() - 69) < 4 and abs(columns.mean() - 35) < 6
    assert (named[rows, columns] == 255).all(-1).any() and (named[rows, columns] == 0).all(-1).any()
    assert np.ptp(rows) < 20 and 20 < np.ptp(columns) < 60
    assert changed[labels == 0].any() and changed.mean() < 0.15


def test_a_name_at_the_edge_stays_inside():
    labels = np.zeros((60, 120), int)
    labels[:, 117:] = 1
    found = Segmentation(
        labels, np.ones((60, 120)), ('a', 'traffic light'), np.zeros((60, 120, 3), np.uint8)
    )
    named = np.array(found.plot(labels=True, opacity=0))[:60, :120]
    columns = np.nonzero((named == 255).all(-1).any(0))[0]
    right = columns[columns > 62]
    assert right.max() <= 119 and right.min() < 80


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(opacity=1.5), 'opacity: expected 0 to 1, found 1.5'),
        (dict(opacity=float('nan')), 'opacity: expected 0 to 1, found nan'),
        (dict(palette=dict(rode='red')), "expected names of classes, found 'rode'; did .*'road'"),
        (dict(palette=dict(road='gren')), "expected a colour, found 'gren'; did you mean 'green'"),
        (dict(palette=dict(road=(1, 2))), r'three integers from 0 to 255, found \(1, 2\)'),
        (dict(palette=dict(road=(1, 2, 256))), r'three integers from 0 to 255, found'),
        (dict(palette=np.zeros((2, 3), int)), 'a colour for each of 3 classes, found 2'),
        (dict(palette=np.zeros((3, 3))), 'three integers from 0 to 255'),
    ],
)
def test_pictures_that_cannot_be(result, options, message):
    with pytest.raises(ValueError, match=message):
        result.plot(**options)


def test_a_segmentation_in_words(result):
    assert result.to_dict() == dict(
        size=[3, 3], classes=['sky', 'cat', 'road'], segments=result.to_coco_rle()
    )


@pytest.fixture
def mask():
    return np.array([[0, 1, 0], [0, 1, 1]], bool)


def test_a_phrase_as_rle_and_file(mask, tmp_path):
    found = Referred(mask, 0.5, 'the cup', np.zeros((2, 3, 3), np.uint8))
    (entry,) = found.to_coco_rle()
    assert np.array_equal(coco_mask.decode(entry['segmentation']), mask)
    assert (entry['category'], entry['area'], entry['score']) == ('the cup', 3, 0.5)
    assert entry['bbox'] == [1, 0, 2, 2]
    found.save(tmp_path / 'mask.png')
    assert np.array_equal(np.array(Image.open(tmp_path / 'mask.png')), 255 * mask)


def test_the_picture_of_a_phrase_by_hand(mask):
    image = np.full((2, 3, 3), 100, np.uint8)
    found = Referred(mask, 0.5, 'the cup', image)
    shown = np.array(found.plot(opacity=0.75, outlines=False))[:2]
    assert shown[..., 0].tolist() == [[25, 100, 25], [25, 100, 100]]
    shown = np.array(found.plot(colour='lime'))
    assert shown[:2].tolist() == [
        [[0, 255, 0], [100] * 3, [0, 255, 0]],
        [[0, 255, 0], [100] * 3, [100] * 3],
    ]
    with pytest.raises(ValueError, match="expected a colour, found 'limes'; did you mean 'lime'?"):
        found.plot(colour='limes')
    wide = Referred(np.ones((60, 90), bool), 0.5, 'cup', np.full((60, 90, 3), 100, np.uint8))
    named, plain = (np.array(wide.plot(labels=labels))[:60] for labels in (True, False))
    rows, columns = np.nonzero((named != plain).any(-1))
    assert (plain == 100).all() and abs(rows.mean() - 30) < 4 and abs(columns.mean() - 45) < 4
    nothing = Referred(np.zeros((2, 3), bool), 0.5, 'cup', image)
    assert (np.array(nothing.plot(labels=True))[:2] == 40).all()


def test_a_phrase_that_means_nothing_here():
    found = Referred(np.zeros((2, 3), bool), 0.1, 'the cup', np.zeros((2, 3, 3), np.uint8))
    assert found.to_coco_rle() == found.to_dict()['segments'] == []
