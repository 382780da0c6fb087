import io

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.io.image import decode_rgb
from mmseg_siglip.labelling.listing import Listing
from mmseg_siglip.labelling.streams import Stream

datasets = pytest.importorskip('datasets')


def encoded(value):
    file = io.BytesIO()
    Image.new('RGB', (4, 3), (value, value, value)).save(file, 'PNG')
    return file.getvalue()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    rows = [dict(bytes=encoded(value), path=f'{value}.png') for value in range(7)]
    for part in range(2):
        table = datasets.Dataset.from_dict(
            dict(image=rows[part::2], caption=['x'] * len(rows[part::2])),
            features=datasets.Features(image=datasets.Image(), caption=datasets.Value('string')),
        )
        table.to_parquet(str(tmp_path / f'set/train-{part}.parquet'))
    return str(tmp_path / 'set')


def test_a_shard_for_each_file_of_a_data_set(folder):
    listing = Listing([f'datasets:{folder}'])
    shards = list(listing.shards())
    assert len(shards) == 2 and len({shard.name for shard in shards}) == 2
    assert listing.roots == [f'datasets:{folder}']
    found = {m.name: decode_rgb(m.read(), m.place) for s in shards for m in s.members()}
    assert sorted(found) == [f'train/00000/00000{row}' for row in range(4)] + [
        f'train/00001/00000{row}' for row in range(3)
    ]
    for part in range(2):
        for row in range(4 - part):
            assert (found[f'train/{part:05d}/{row:06d}'] == np.uint8(2 * row + part)).all()


def test_what_is_asked_for():
    stream = Stream.of('datasets:owner/name?split=test&column=photo&subset=small&revision=1a')
    assert stream == Stream('owner/name', 'test', 'photo', 'small', '1a')
    with pytest.raises(ValueError, match='expected split, column, subset, revision, found row'):
        Stream.of('datasets:owner/name?row=1')


def test_what_cannot_be_read(folder, tmp_path):
    with pytest.raises(ValueError, match="expected a column 'photo', found image, caption"):
        list(Listing([f'datasets:{folder}?column=photo']).shards())
    with pytest.raises(ValueError, match='cannot be read as a data set'):
        list(Listing([f'datasets:{folder}?split=nope']).shards())
    with pytest.raises(ValueError, match='cannot be read as a data set'):
        list(Listing([f'datasets:{tmp_path}/absent']).shards())
