from __future__ import annotations

import hashlib
import os

import pytest
import torch

from mmseg_siglip.weights.publish import publish


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / 'iter_8.pth'
    parts = dict(meta=dict(iter=8), state_dict=dict(w=torch.ones(2)), optimizer=dict(state={}))
    torch.save(parts, path)
    return path


def test_parts_under_the_name_of_their_digest(saved):
    target = publish(saved, ['meta', 'state_dict'])
    assert torch.load(target, weights_only=True).keys() == {'meta', 'state_dict'}
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    assert target.name == f'iter_8-{digest[:8]}.pth'
    assert {file.name for file in saved.parent.iterdir()} == {saved.name, target.name}


def test_a_part_that_is_not_there_is_refused(saved):
    with pytest.raises(ValueError, match='expected some of meta, .*optimizer, found state_dcit'):
        publish(saved, ['state_dcit'])
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


def test_nothing_half_written_is_left(saved, monkeypatch):
    def full(file):
        raise OSError('no space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='no space left'):
        publish(saved, ['state_dict'])
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]
