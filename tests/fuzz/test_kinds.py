"""A few damaged inputs of each kind in which a whole search, that of `tests.fuzz`, finds none."""

from __future__ import annotations

import pytest
from fuzz.command import MODULES, kinds_of
from fuzz.report import faults
from fuzz.search import search

TOGETHER, ALONE = 40, 8
"""Inputs where one process reads several, and where each has its own."""

SOUND = dict(
    images=(
        'image BMP',
        'image GIF',
        'image JPEG',
        'image JPEG2000',
        'image PNG',
        'image PPM',
        'label map',
        'depth map',
    ),
    archives=('list of images',),
    words=('vocabulary',),
    encoders=('pickle', 'safetensors'),
)


@pytest.mark.parametrize(
    ('module', 'name'), [(module, name) for module in SOUND for name in SOUND[module]]
)
def test_nothing_escapes(module, name, tmp_path):
    (kind,) = (kind for kind in kinds_of(module) if kind.name == name)
    number = TOGETHER if kind.batch > 1 else ALONE
    row = search(kind, tmp_path, seed=1, number=number, seconds=60)
    assert row.sound, faults([row])
    assert sum(row.verdicts.values()) == number and row.verdicts['refused']


def test_no_kind_has_the_name_of_another():
    names = [kind.name for module in MODULES for kind in kinds_of(module)]
    assert len(set(names)) == len(names) > 50
    assert {name for names in SOUND.values() for name in names} <= set(names)
