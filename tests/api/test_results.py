import json
import pickle
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmseg_siglip.api.results import Answer, DepthMap, NormalMap, Referred, Segmentation
from mmseg_siglip.io.image import decode_depth

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


def test_a_phrase_that_means_nothing_here():
    found = Referred(np.zeros((2, 3), bool), 0.1, 'the cup', np.zeros((2, 3, 3), np.uint8))
    assert found.to_coco_rle() == found.to_dict()['segments'] == []


DEPTH = np.array([[0.5, 2.0], [np.nan, 60.1234]], np.float32)
IMAGE = np.zeros((2, 2, 3), np.uint8)


@pytest.mark.parametrize(('options', 'scale'), [(dict(), 1000), (dict(scale=256), 256)])
def test_metres_come_back_from_a_png(tmp_path, options, scale):
    DepthMap(DEPTH, 'metre', IMAGE).save(tmp_path / 'd.png', **options)
    metres = decode_depth((tmp_path / 'd.png').read_bytes(), 'd.png') / scale
    np.testing.assert_allclose(metres, np.nan_to_num(DEPTH), atol=0.51 / scale)
    assert metres[1, 0] == 0


def test_depth_that_a_png_cannot_hold_is_refused(tmp_path):
    far = DepthMap(np.full((2, 2), 80.0, np.float32), 'metre', IMAGE)
    with pytest.raises(ValueError, match=r'at most 65.535 m at a depth scale of 1000, found 80 m'):
        far.save(tmp_path / 'd.png')
    far.save(tmp_path / 'd.png', scale=256)
    with pytest.raises(ValueError, match=r'd.jpg: expected a name in .png or .npy'):
        far.save(tmp_path / 'd.jpg')


def test_depth_as_it_is(tmp_path):
    DepthMap(DEPTH, 'metre', IMAGE).save(tmp_path / 'd.npy')
    np.testing.assert_array_equal(np.load(tmp_path / 'd.npy'), DEPTH)


def test_inverse_depth_is_spread(tmp_path):
    DepthMap(np.array([[-1.0, 0.0], [1.0, 3.0]], np.float32), 'inverse', IMAGE).save(
        tmp_path / 'd.png'
    )
    saved = np.array(Image.open(tmp_path / 'd.png'))
    assert saved.tolist() == [[0, 16384], [32768, 65535]]


@pytest.mark.parametrize(('unit', 'near'), [('metre', 0), ('inverse', 1)])
def test_what_is_near_is_bright(unit, near):
    depth = np.array([[1.0, 4.0]], np.float32)
    pixels = np.array(DepthMap(depth, unit, IMAGE[:1]).plot())[0].sum(1)
    assert pixels[near] > pixels[1 - near] > 0


def test_a_depth_map_in_words():
    assert DepthMap(DEPTH, 'metre', IMAGE).to_dict() == dict(
        size=[2, 2], unit='metre', relative=False, limits=[0.5, pytest.approx(60.1234)]
    )
    unknown = DepthMap(np.full((2, 2), np.nan, np.float32), 'metre', IMAGE)
    assert json.dumps(unknown.to_dict()) == (
        '{"size": [2, 2], "unit": "metre", "relative": false, "limits": null}'
    )
    assert (np.array(unknown.plot())[:2, :2] == 0).all()


def test_normals_as_colours(tmp_path):
    normals = np.zeros((2, 2, 3), np.float32)
    normals[0, 0, 2], normals[0, 1, 0], normals[1, 0, 1], normals[1, 1, 0] = 1, 1, 1, -1
    result = NormalMap(normals, IMAGE)
    result.save(tmp_path / 'n.png')
    written = np.array(Image.open(tmp_path / 'n.png'))
    expected = [[[128, 128, 255], [255, 128, 128]], [[128, 255, 128], [0, 128, 128]]]
    np.testing.assert_array_equal(written, expected)
    np.testing.assert_array_equal(np.array(result.plot())[:2, :2], expected)
    result.save(tmp_path / 'n.npy')
    np.testing.assert_array_equal(np.load(tmp_path / 'n.npy'), normals)
    assert result.to_dict() == dict(size=[2, 2], mean=[0.0, 0.25, 0.25])
    with pytest.raises(ValueError, match=r'n.jpg: expected a name in .png or .npy'):
        result.save(tmp_path / 'n.jpg')


def test_metres_below_0_are_no_depth(tmp_path):
    """Bicubic enlarging can give some."""
    DepthMap(np.array([[-0.002, 1.5]], np.float32), 'metre', IMAGE[:1]).save(tmp_path / 'd.png')
    assert np.array(Image.open(tmp_path / 'd.png')).tolist() == [[0, 1500]]


def test_the_nearest_depth_is_not_unknown(tmp_path):
    DepthMap(np.array([[0.0001, 0.0]], np.float32), 'metre', IMAGE[:1]).save(tmp_path / 'd.png')
    assert np.array(Image.open(tmp_path / 'd.png')).tolist() == [[1, 0]]


def test_an_answer_is_a_string_that_knows_its_question(tmp_path):
    answer = Answer('a cup', 'what is it?', IMAGE)
    assert answer == 'a cup' and answer.upper() == 'A CUP'
    assert answer.to_dict() == dict(question='what is it?', answer='a cup', complete=True)
    answer.save(tmp_path / 'a.txt')
    assert (tmp_path / 'a.txt').read_text() == 'a cup\n'
    again = pickle.loads(pickle.dumps(Answer('a cup', 'what is it?', IMAGE, complete=False)))
    assert again == answer and not again.complete and again.question == answer.question
    assert np.array_equal(again.image, IMAGE)
