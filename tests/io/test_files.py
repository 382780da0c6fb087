"""A file is the old one or the new one, and nothing lies beside it."""

from __future__ import annotations

import csv
import errno
import os

import pytest
import torch
from safetensors.torch import save_file

from mmseg_siglip.io.files import whole_file, write_atomically, write_csv


def test_an_atomic_write_leaves_the_old_file_or_the_new(tmp_path, monkeypatch):
    path = tmp_path / 'deep' / 'a.pth'
    write_atomically(b'old', path)
    assert path.read_bytes() == b'old'
    assert os.stat(path).st_mode & 0o777 == 0o666 & ~current_umask()

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match='disk full'):
        write_atomically(b'new', path)
    assert path.read_bytes() == b'old'
    assert [file.name for file in path.parent.iterdir()] == ['a.pth']


def test_whoever_may_read_the_folder_may_read_the_file(tmp_path):
    with whole_file(tmp_path / 'a.safetensors') as draft:
        save_file(dict(a=torch.ones(2)), draft)
        draft.chmod(0o600)  # as safetensors does since 0.8
    assert os.stat(tmp_path / 'a.safetensors').st_mode & 0o777 == 0o666 & ~current_umask()


def test_a_full_disk_is_named_by_the_file_that_did_not_fit(tmp_path):
    with pytest.raises(OSError) as caught, whole_file(tmp_path / 'a'):
        with open('/dev/full', 'wb', buffering=0) as full:
            full.write(b'x')
    assert caught.value.filename == str(tmp_path / 'a') and caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError) as caught, whole_file(tmp_path / 'a'):
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    assert caught.value.filename is None


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_name_may_be_as_long_as_a_disk_allows(tmp_path):
    write_atomically(b'', tmp_path / ('n' * 255))
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]


def test_text_that_is_no_unicode_leaves_the_old_file(tmp_path):
    path = tmp_path / 'a.json'
    write_atomically('ü', path)
    with pytest.raises(UnicodeEncodeError):
        write_atomically('\ud800', path)
    assert path.read_text(encoding='utf-8') == 'ü'


def test_a_block_that_fails_half_way_leaves_nothing(tmp_path):
    draft = tmp_path / 'drafts' / 'one'
    for chosen in (None, draft):
        with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / 'a', draft=chosen) as file:
            assert chosen in (None, file) and file.parent.is_dir()
            file.write_bytes(b'half')
            raise KeyboardInterrupt
    assert [path.name for path in tmp_path.rglob('*')] == ['drafts']
    with whole_file(tmp_path / 'more' / 'a', draft=draft) as file:
        file.write_bytes(b'whole')
    assert (tmp_path / 'more' / 'a').read_bytes() == b'whole' and not draft.exists()


def test_rows_come_back(tmp_path):
    rows = [dict(name='a, b', score=1.5), dict(name='ü', score=2)]
    write_csv(rows, tmp_path / 'new' / 'rows.csv')
    with (tmp_path / 'new' / 'rows.csv').open(encoding='utf-8') as file:
        assert list(csv.DictReader(file)) == [
            dict(name='a, b', score='1.5'),
            dict(name='ü', score='2'),
        ]
