import errno
import json
import os

import numpy as np
import pytest
from labelled import fill
from PIL import Image

from mmseg_siglip.api.results import Answer, DepthMap
from mmseg_siglip.api.segmentation import Referred, Segmentation
from mmseg_siglip.io.image import decode_depth
from mmseg_siglip.labelling.exports import files

IMAGE = np.zeros((4, 6, 3), np.uint8)


def labels(value, count=3):
    names = tuple(f'thing {index}' for index in range(count))
    return Segmentation(np.full((4, 6), value), np.ones((4, 6), np.float32), names, IMAGE)


def test_label_maps_are_those_that_a_segmentation_saves(tmp_path):
    found = {'more/a.jpg': labels(2), 'b.png': labels(1)}
    assert files.export_label_maps(fill(tmp_path, found), tmp_path) == []
    for name, result in found.items():
        result.save(tmp_path / 'direct.png')
        written = tmp_path / 'labels' / f'{name}.png'
        assert written.read_bytes() == (tmp_path / 'direct.png').read_bytes()
    assert (tmp_path / 'classes.txt').read_text() == 'thing 0\nthing 1\nthing 2\n'


def test_what_is_there_already_is_left_and_what_differs_is_written_again(tmp_path):
    tables = fill(tmp_path, {'a.jpg': labels(1), 'b.jpg': labels(2)})
    files.export_label_maps(tables, tmp_path)
    a, b = (tmp_path / f'labels/{name}.jpg.png' for name in 'ab')
    before, whole = a.stat().st_mtime_ns, b.read_bytes()
    b.write_bytes(whole[:20])
    files.export_label_maps(tables, tmp_path)
    assert a.stat().st_mtime_ns == before and b.read_bytes() == whole


def test_a_name_without_a_place_is_a_failure_and_a_full_disk_is_an_error(tmp_path, monkeypatch):
    tables = fill(tmp_path, {'a.jpg': labels(1), 'a.jpg.png/b.jpg': labels(2), 'c.jpg': labels(0)})
    (failure,) = files.export_label_maps(tables, tmp_path)
    assert failure.path == str(tmp_path / 'labels/a.jpg.png/b.jpg.png')
    assert (tmp_path / 'labels/c.jpg.png').is_file()
    (tmp_path / 'labels/c.jpg.png').unlink()

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, 'write_atomically', full)
    with pytest.raises(OSError, match='No space left'):
        files.write_files(iter([('c.jpg.png', b'')]), tmp_path / 'labels')


def test_masks_depth_and_answers(tmp_path):
    mask = np.eye(4, 6, dtype=bool)
    found = {'a.jpg': [Referred(mask, 0.5, 'the cup', IMAGE), Referred(~mask, 0.5, 'it', IMAGE)]}
    refer = fill(tmp_path / 'refer', found, task='refer', classes=['the cup', 'it'])
    files.export_masks(refer, tmp_path / 'refer')
    second = Image.open(tmp_path / 'refer/masks/a.jpg.2.png')
    assert (np.array(second) == np.where(mask, 0, 255)).all()
    assert (tmp_path / 'refer/phrases.txt').read_text() == 'the cup\nit\n'

    depth = np.float32([[1, 2.5], [0.25, 4]])
    found = {'d.jpg': DepthMap(depth, 'metre', np.zeros((2, 2, 3), np.uint8))}
    files.export_depth_maps(fill(tmp_path / 'depth', found, task='depth'), tmp_path / 'depth')
    place = tmp_path / 'depth/depth/d.jpg.png'
    assert (decode_depth(place.read_bytes(), str(place), per_metre=1000) == depth * 1000).all()

    found = {f'{name}.jpg': Answer(f'ein {name}ü', 'What?', IMAGE) for name in 'ab'}
    files.export_answers(fill(tmp_path / 'ask', found, task='ask'), tmp_path / 'ask')
    lines = (tmp_path / 'ask/answers.jsonl').read_text(encoding='utf-8').splitlines()
    assert [json.loads(line)['answer'] for line in lines] == ['ein aü', 'ein bü']
    assert json.loads(lines[0]) == {
        **dict(name='a.jpg', question='What?', answer='ein aü', complete=True)
    }
