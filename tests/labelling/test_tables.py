import numpy as np
import pytest
from labelled import fill, random_labels

from mmseg_siglip.api.segmentation import Referred
from mmseg_siglip.io.failures import Failure
from mmseg_siglip.labelling.objects import ShardStore
from mmseg_siglip.labelling.rows import schema_of, write_table
from mmseg_siglip.labelling.tables import Tables


def test_images_in_the_order_of_their_shards(tmp_path):
    results = {f'{name}.jpg': random_labels(index) for index, name in enumerate('dacb')}
    tables = fill(tmp_path, results, per_shard=3)
    assert [image.name for image in tables.images()] == list(results)
    assert [(i.name, i.height, i.width) for i in tables.sizes()] == [(n, 12, 17) for n in results]
    for image in tables.images():
        labels = np.full((12, 17), -1)
        for index, mask, score in tables.masks(image):
            labels[mask] = index
            assert score == pytest.approx(results[image.name].scores[mask].mean())
        assert (labels == results[image.name].labels).all()


def test_several_rows_of_one_image(tmp_path):
    mask, image = np.eye(3, 4, dtype=bool), np.zeros((3, 4, 3), np.uint8)
    pair = [Referred(mask, 0.5, 'a', image), Referred(mask & ~mask, 0.25, 'b', image)]
    tables = fill(tmp_path, {'x.jpg': pair, 'y.jpg': pair}, task='refer', classes=['a', 'b'])
    assert [len(found.rows) for found in tables.images()] == [2, 2]
    ((index, found, score),) = tables.masks(next(tables.images()))
    assert index == 0 and (found == mask).all() and score == 0.5


def test_failures_are_apart(tmp_path):
    tables = fill(tmp_path, {'a.jpg': random_labels(0)})
    rows = [dict(path='p/b.jpg', failure='is empty')]
    tables.store.put('t', lambda file: write_table(rows, schema_of({}, {}), file))
    tables.store.write_index(['t', 's-0'])
    assert list(tables.failures()) == [Failure('p/b.jpg', 'is empty')]
    assert [image.name for image in tables.images()] == ['a.jpg']


def test_no_such_folder(tmp_path):
    with pytest.raises(ValueError, match=r'expected manifest\.json'):
        Tables(ShardStore(tmp_path))
