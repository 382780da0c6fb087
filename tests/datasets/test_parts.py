"""Images without lists are split by their names, the same way every time."""

from __future__ import annotations

import random

import pytest

from mmseg_siglip.datasets import FolderDataset, RGBDDataset
from mmseg_siglip.datasets.parts import pairs_of_part


def images(count, folder='photos', suffix='.jpg'):
    return [(f'{folder}/s/{index:03d}{suffix}', None) for index in range(count)]


def names(pairs):
    return [image.rpartition('/')[2].partition('.')[0] for image, _ in pairs]


@pytest.mark.parametrize(('held_out', 'count', 'held'), [(0.2, 50, 10), (0.5, 2, 1), (0.05, 30, 2)])
def test_each_image_is_in_one_part(held_out, count, held):
    every = images(count)
    train, val = (pairs_of_part(every, part, held_out, 'photos') for part in ('train', 'val'))
    assert len(val) == held and sorted(train + val) == every
    assert pairs_of_part(every, None, None, 'photos') == every


def test_parts_depend_on_names_alone():
    val = names(pairs_of_part(images(40), 'val', 0.25, 'photos'))
    moved = images(40, '/elsewhere/photos', '.PNG')
    random.Random(0).shuffle(moved)
    assert sorted(names(pairs_of_part(moved, 'val', 0.25, '/elsewhere/photos'))) == val
    by_sha256sum = '002 003 004 005 010 012 019 020 026 027'
    assert val == by_sha256sum.split()


def test_too_few_images():
    with pytest.raises(ValueError, match=r'photos: held_out=0\.1 of 4 images leaves 0 to validate'):
        pairs_of_part(images(4), 'train', 0.1, 'photos')


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (dict(part='train'), "together, found part='train' and held_out=None"),
        (dict(held_out=0.2), 'together, found part=None and held_out=0.2'),
        (dict(part='test', held_out=0.2), "part: expected one of train, val, found 'test'"),
        (dict(part='val', held_out=20), 'held_out: expected a share between 0 and 1, found 20'),
        (dict(part='val', held_out=1.0), 'held_out: expected a share between 0 and 1, found 1.0'),
    ],
)
def test_what_is_refused(arguments, sentence):
    for kind, given in ((FolderDataset, dict(vocabulary=['a'])), (RGBDDataset, dict(data_root=''))):
        with pytest.raises(ValueError, match=sentence):
            kind(lazy_init=True, **given, **arguments)


def test_data_sets_are_split(tmp_path):
    for index in range(10):
        (tmp_path / f'{index}.jpg').touch()
        (tmp_path / f'{index}.png').touch()
    prefix = dict(img_path=str(tmp_path), seg_map_path=str(tmp_path))
    folder = dict(vocabulary=['a'], data_prefix=prefix)
    depth = dict(data_root=str(tmp_path))
    for kind, given in ((FolderDataset, folder), (RGBDDataset, depth)):
        parts = [kind(part=part, held_out=0.3, **given) for part in ('train', 'val')]
        found = [{part[i]['img_path'] for i in range(len(part))} for part in parts]
        assert list(map(len, found)) == [7, 3] and not found[0] & found[1]
