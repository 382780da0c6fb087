import json

import label_maps
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmseg_siglip.api.segmentation import Segmentation
from mmseg_siglip.io.label_store import COCOPolygonStore, COCOStore, PNGStore, YOLOStore
from mmseg_siglip.text.vocabulary import Vocabulary

CLASSES = ('cat', 'dog', 'grass')


def result(seed, size=(12, 17)):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, size)
    scores = rng.random(size, dtype=np.float32)
    return Segmentation(labels, scores, CLASSES, np.zeros((*size, 3), np.uint8))


@pytest.mark.parametrize('kind', [PNGStore, COCOStore])
def test_what_is_written_is_done(kind, tmp_path):
    assert kind(tmp_path, 0).done() == set()
    for process, name in enumerate(('a.png', 'more/b.jpg', 'more/a.png')):
        kind(tmp_path, process).write(name, result(process))
    assert kind(tmp_path, 1).done() == {'a.png', 'more/b.jpg', 'more/a.png'}


def test_png_is_the_segmentations_own(tmp_path):
    store = PNGStore(tmp_path, 3)
    store.write('more/a.jpg', result(0))
    image = Image.open(tmp_path / 'labels' / 'more' / 'a.jpg.png')
    np.testing.assert_array_equal(np.array(image), result(0).labels)
    result(0).save(tmp_path / 'direct.png')
    assert (tmp_path / 'direct.png').read_bytes() == (store.labels / 'more/a.jpg.png').read_bytes()
    store.finish(CLASSES, {})
    assert [item.name for item in tmp_path.iterdir() if item.is_dir()] == ['labels']


def test_a_png_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    store = PNGStore(tmp_path, 0)

    def cut(self, path):
        path.write_bytes(b'\x89PNG half')
        raise OSError('disk full')

    monkeypatch.setattr(Segmentation, 'save', cut)
    with pytest.raises(OSError, match='disk full'):
        store.write('a.jpg', result(0))
    assert store.done() == set()


def test_journals_are_merged_into_what_pycocotools_reads(tmp_path):
    names = ['c.jpg', 'a.jpg', 'b/ü.jpg', 'b/d.jpg']
    for index, name in enumerate(names):
        COCOStore(tmp_path, index % 2).write(name, result(index, (12, 10 + index)))
    COCOStore(tmp_path, 0).finish(CLASSES, dict(settings='abc'))
    coco = COCO(str(tmp_path / 'labels.json'))
    assert coco.dataset['info'] == dict(settings='abc')
    assert [image['file_name'] for image in coco.dataset['images']] == sorted(names)
    assert coco.dataset['categories'][2] == dict(id=3, name='grass')
    ids = [annotation['id'] for annotation in coco.dataset['annotations']]
    assert ids == list(range(1, len(ids) + 1))
    for image in coco.dataset['images']:
        expected = result(names.index(image['file_name']), (12, image['width']))
        labels = np.full((image['height'], image['width']), -1)
        for annotation in coco.loadAnns(coco.getAnnIds(image['id'])):
            mask = coco_mask.decode(annotation['segmentation']).astype(bool)
            assert mask.sum() == annotation['area'] and annotation['iscrowd'] == 0
            labels[mask] = annotation['category_id'] - 1
        np.testing.assert_array_equal(labels, expected.labels)


def test_nothing_to_merge_is_a_file_all_the_same(tmp_path):
    COCOStore(tmp_path, 0).finish(CLASSES, {})
    assert json.loads((tmp_path / 'labels.json').read_text())['images'] == []


def test_a_line_cut_anywhere_is_an_image_not_done(tmp_path):
    for name in ('a.jpg', 'b.jpg'):
        COCOStore(tmp_path, 0).write(name, result(0))
    (journal,) = (tmp_path / 'journal').iterdir()
    whole = journal.read_bytes()
    begin = whole.index(b'\n') + 1
    for end in (*range(begin, begin + 40), len(whole) - 2, len(whole) - 1):
        journal.write_bytes(whole[:end])
        store = COCOStore(tmp_path, 0)
        assert store.done() == {'a.jpg'}
        assert journal.read_bytes() == whole[:begin]
        store.write('b.jpg', result(0))
        assert journal.read_bytes() == whole
    journal.write_bytes(whole[:5])
    assert COCOStore(tmp_path, 0).done() == set() and journal.read_bytes() == b''


def filled(kind, folder, names):
    for index, name in enumerate(names):
        kind(folder, index % 2).write(name, result(index, (12, 10 + index)))
    kind(folder, 0).finish(CLASSES, {})
    return {name: result(index, (12, 10 + index)) for index, name in enumerate(names)}


@pytest.mark.parametrize('kind', [COCOStore, COCOPolygonStore])
@pytest.mark.parametrize(
    ('names', 'ids'),
    [
        (['b/000000000139.jpg', '000000000007.jpg'], {'000000000007.jpg': 7}),
        (['b/7.jpg', '7.jpg', 'c.jpg'], {'7.jpg': 1, 'b/7.jpg': 2, 'c.jpg': 3}),
    ],
)
def test_what_pycocotools_takes_as_results(kind, tmp_path, names, ids):
    results = filled(kind, tmp_path, names)
    coco = COCO(str(tmp_path / 'labels.json'))
    found = coco.loadRes(str(tmp_path / 'results.json'))
    assert [category['id'] for category in coco.dataset['categories']] == [1, 2, 3]
    assert ids.items() <= {i['file_name']: i['id'] for i in coco.dataset['images']}.items()
    for image in coco.dataset['images']:
        expected = results[image['file_name']]
        for data in (coco, found):
            entries = data.loadAnns(data.getAnnIds(image['id']))
            assert len(entries) == len(expected.found)
            for entry in entries:
                mask = expected.labels == entry['category_id'] - 1
                assert (data.annToMask(entry) == mask).all() and entry['area'] == mask.sum()
                assert entry['score'] == pytest.approx(expected.scores[mask].mean())
    shapes = {type(a['segmentation']) for a in coco.dataset['annotations']}
    assert shapes == {dict if kind is COCOStore else list}


def test_yolo_is_read_by_the_converter_of_yolo(tmp_path):
    results = filled(YOLOStore, tmp_path, ['a.jpg', 'b/ü.png'])
    for name, expected in results.items():
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(expected.image).save(path)
    names, drawings = label_maps.yolo(tmp_path)
    assert tuple(names) == CLASSES
    drawn = {drawing.stem: drawing.draw() for drawing in drawings}
    assert (drawn['a'] == results['a.jpg'].labels).all()
    assert (drawn['b/ü'] == results['b/ü.png'].labels).all()


def test_two_images_of_one_text_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r'labels/a\.txt is of two images, a\.jpg and a\.png'):
        filled(YOLOStore, tmp_path, ['a.jpg', 'a.png'])


def test_class_names_lie_beside_label_maps(tmp_path):
    filled(PNGStore, tmp_path, ['a.jpg'])
    assert Vocabulary.load(tmp_path / 'classes.txt').names == CLASSES
