import json

import numpy as np
import pytest
from labelled import fill
from labelled import random_labels as result
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmseg_siglip.api.segmentation import Referred
from mmseg_siglip.labelling.exports.coco import coco, coco_polygons


def test_tables_become_what_pycocotools_reads(tmp_path):
    names = ['a.jpg', 'b/d.jpg', 'b/ü.jpg', 'c.jpg']
    results = {name: result(index, (12, 10 + index)) for index, name in enumerate(names)}
    tables = fill(tmp_path, results)
    assert coco(tables, tmp_path) == []
    data = COCO(str(tmp_path / 'labels.json'))
    assert data.dataset['info'] == dict(settings=tables.digest)
    assert [image['file_name'] for image in data.dataset['images']] == names
    assert data.dataset['categories'][2] == dict(id=3, name='grass')
    ids = [annotation['id'] for annotation in data.dataset['annotations']]
    assert ids == list(range(1, len(ids) + 1))
    for image in data.dataset['images']:
        expected = results[image['file_name']]
        labels = np.full((image['height'], image['width']), -1)
        for annotation in data.loadAnns(data.getAnnIds(image['id'])):
            mask = coco_mask.decode(annotation['segmentation']).astype(bool)
            assert mask.sum() == annotation['area'] and annotation['iscrowd'] == 0
            labels[mask] = annotation['category_id'] - 1
        np.testing.assert_array_equal(labels, expected.labels)


@pytest.mark.parametrize('form', [coco, coco_polygons])
@pytest.mark.parametrize(
    ('names', 'ids'),
    [
        (['b/000000000139.jpg', '000000000007.jpg'], {'000000000007.jpg': 7}),
        (['b/7.jpg', '7.jpg', 'c.jpg'], {'b/7.jpg': 1, '7.jpg': 2, 'c.jpg': 3}),
        (['8.jpg', 'b/8.jpg'], {'8.jpg': 1, 'b/8.jpg': 2}),
    ],
)
def test_what_pycocotools_takes_as_results(form, tmp_path, names, ids):
    results = {name: result(index, (12, 10 + index)) for index, name in enumerate(names)}
    form(fill(tmp_path, results), tmp_path)
    data = COCO(str(tmp_path / 'labels.json'))
    found = data.loadRes(str(tmp_path / 'results.json'))
    assert [category['id'] for category in data.dataset['categories']] == [1, 2, 3]
    assert ids.items() <= {i['file_name']: i['id'] for i in data.dataset['images']}.items()
    for image in data.dataset['images']:
        expected = results[image['file_name']]
        for each in (data, found):
            entries = each.loadAnns(each.getAnnIds(image['id']))
            assert len(entries) == len(expected.found)
            for entry in entries:
                mask = expected.labels == entry['category_id'] - 1
                assert (each.annToMask(entry) == mask).all() and entry['area'] == mask.sum()
                assert entry['score'] == pytest.approx(expected.scores[mask].mean(), rel=1e-6)
    shapes = {type(a['segmentation']) for a in data.dataset['annotations']}
    assert shapes == {dict if form is coco else list}


def test_phrases_are_categories(tmp_path):
    """A phrase that means nothing in an image has no annotation there."""
    image, mask = np.zeros((6, 8, 3), np.uint8), np.eye(6, 8, dtype=bool)
    texts = ['the cup', 'the rest']
    masks = {'a.jpg': [(mask, 0.75), (~mask, 0.5)], 'b.jpg': [(mask & ~mask, 0.25), (mask, 1.0)]}
    found = {
        name: [Referred(*each, text, image) for each, text in zip(pair, texts, strict=True)]
        for name, pair in masks.items()
    }
    coco(fill(tmp_path, found, task='refer', classes=texts), tmp_path)
    data = COCO(str(tmp_path / 'labels.json'))
    assert [category['name'] for category in data.dataset['categories']] == texts
    seen = [(a['image_id'], a['category_id'], a['score']) for a in data.dataset['annotations']]
    assert seen == [(1, 1, 0.75), (1, 2, 0.5), (2, 2, 1.0)]
    assert (data.annToMask(data.dataset['annotations'][0]) == mask).all()


def test_no_image_is_a_file_all_the_same(tmp_path):
    tables = fill(tmp_path, {'a.jpg': result(0)})
    tables.store.write_index([])
    coco(tables, tmp_path)
    assert json.loads((tmp_path / 'labels.json').read_text())['images'] == []
    assert json.loads((tmp_path / 'results.json').read_text()) == []
