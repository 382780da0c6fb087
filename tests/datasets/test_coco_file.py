"""COCO's JSON by ids, and what is damaged in it by name."""

from __future__ import annotations

import json

import pytest

from mmseg_siglip.datasets import RefCOCODataset
from mmseg_siglip.datasets.coco_file import read_coco

FIELDS = dict(images=['file_name'], annotations=['segmentation'])
GOOD = dict(
    images=[dict(id=2, file_name='b.jpg'), dict(id=1, file_name='a.jpg')],
    annotations=[dict(id=5, segmentation=[[0, 0, 4, 0, 4, 4]])],
)


def test_entries_by_their_ids(tmp_path):
    (tmp_path / 'a.json').write_text(json.dumps(GOOD))
    found = read_coco(tmp_path / 'a.json', FIELDS)
    assert list(found['images']) == [2, 1] and found['images'][1]['file_name'] == 'a.jpg'
    assert found['annotations'][5]['segmentation'] == [[0, 0, 4, 0, 4, 4]]
    again = GOOD | dict(images=GOOD['images'] * 2)
    (tmp_path / 'a.json').write_text(json.dumps(again))
    assert read_coco(tmp_path / 'a.json', FIELDS) == found


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ([], 'found no images and no annotations'),
        (dict(images=3), 'expected a list of images, found int'),
        (dict(images=[3]), r'images\[0\]: expected an object with id, .*lacks id, file_name'),
        (dict(images=[dict(id=1)]), r'images\[0\]: .* it lacks file_name'),
        (
            dict(images=[dict(id=[1], file_name='a')]),
            r'images\[0\]: expected id to be a number or text, found \[1\]',
        ),
        (dict(images=[dict(id=1, file_name=2)]), r'images\[0\]: expected file_name to be text'),
        (
            dict(images=[dict(id=1, file_name='a'), dict(id='2', file_name='b')]),
            'expected the ids of images to be all numbers or all text',
        ),
        (dict(annotations=[dict(id=1)]), r'annotations\[0\]: .* it lacks segmentation'),
        (
            dict(images=[dict(id=1, file_name='a'), dict(id=1, file_name='b')]),
            'two different images have the id 1',
        ),
    ],
)
def test_damage_gets_one_sentence(tmp_path, changes, sentence):
    content = changes if isinstance(changes, list) else GOOD | changes
    (tmp_path / 'instances.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf'instances\.json: .*{sentence}'):
        read_coco(tmp_path / 'instances.json', FIELDS)
    refs = [dict(image_id=1, ann_id=5, split='val', sentences=[dict(raw='x')])]
    (tmp_path / 'refs.json').write_text(json.dumps(refs))
    with pytest.raises(ValueError, match=r'instances\.json: '):
        RefCOCODataset(
            data_root=str(tmp_path), ann_file='instances.json', refs_file='refs.json', split='val'
        )
