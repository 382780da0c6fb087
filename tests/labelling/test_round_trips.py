"""Labels of any number of classes up to 10 000 come back from disk as they were."""

from __future__ import annotations

import json
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import fill

from mmseg_siglip.api.segmentation import Segmentation
from mmseg_siglip.datasets.referring_masks import decode_rle
from mmseg_siglip.datasets.transforms import LoadAnnotations
from mmseg_siglip.io.image import decode_labels
from mmseg_siglip.labelling.exports.coco import coco
from mmseg_siglip.labelling.exports.files import export_label_maps

MOST = 10_000
CLASSES = tuple(f'thing {index}' for index in range(MOST))


@st.composite
def results(draw):
    """Labels of a small image, the first and the last class among them."""
    count = draw(st.sampled_from((1, 2, 255, 256, 257, 1000, 65, MOST)) | st.integers(1, MOST))
    height, width = draw(st.integers(1, 12)), draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(0, count, (height, width))
    labels[0, 0], labels[-1, -1] = 0, count - 1
    scores = rng.random(labels.shape, dtype=np.float32)
    image = np.zeros((*labels.shape, 3), np.uint8)
    return Segmentation(labels, scores, CLASSES[:count], image)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('labels')


@settings(max_examples=60)
@given(result=results())
def test_a_label_map(result, folder):
    with TemporaryDirectory() as place:
        export_label_maps(fill(place, {'a.jpg': result}), folder)
    path = folder / 'labels/a.jpg.png'
    found = decode_labels(path.read_bytes(), str(path))
    np.testing.assert_array_equal(found, result.labels)
    loaded = LoadAnnotations(ignore_index=65535)(dict(seg_map_path=str(path)))
    np.testing.assert_array_equal(loaded['gt_seg_map'], result.labels)


@settings(max_examples=30)
@given(st.lists(results(), min_size=1, max_size=3))
def test_run_lengths(folder, found):
    classes = max((result.classes for result in found), key=len)
    with TemporaryDirectory() as place:
        results = {f'{index}.jpg': result for index, result in enumerate(found)}
        coco(fill(place, results, classes=classes), folder)
    content = json.loads((folder / 'labels.json').read_text())
    assert [entry['name'] for entry in content['categories']] == list(classes)
    for image, result in zip(content['images'], found, strict=True):
        labels = np.full(result.labels.shape, -1)
        for entry in content['annotations']:
            if entry['image_id'] == image['id']:
                mask = decode_rle(entry['segmentation'], labels.shape, image['file_name'])
                assert not (labels[mask == 1] + 1).any()
                labels[mask == 1] = entry['category_id'] - 1
        np.testing.assert_array_equal(labels, result.labels)
