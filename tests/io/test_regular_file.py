import os
import socket

import pytest

from mmseg_siglip.io import regular_file
from mmseg_siglip.io.regular_file import MAX_BYTES, open_regular, read_regular


def test_a_file_and_a_part_of_it(tmp_path):
    (tmp_path / 'a').write_bytes(b'0123456789')
    assert read_regular(tmp_path / 'a') == b'0123456789'
    assert read_regular(tmp_path / 'a', start=3) == b'3456789'
    assert read_regular(tmp_path / 'a', start=3, count=4) == b'3456'
    assert read_regular(tmp_path / 'a', start=8, count=4) == b'89'
    (tmp_path / 'link').symlink_to('a')
    assert read_regular(tmp_path / 'link', count=1) == b'0'


def test_what_has_no_end_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'zero').symlink_to('/dev/zero')
    for name, kind in (('pipe', 'a named pipe'), ('zero', 'a device')):
        with pytest.raises(ValueError, match=f'^is {kind}, expected a regular file$'):
            read_regular(tmp_path / name)
        with pytest.raises(ValueError, match=f'^is {kind}, expected a regular file$'):
            open_regular(tmp_path / name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / 's'))
        with pytest.raises(OSError):
            read_regular(tmp_path / 's')
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / 'gone')


def test_a_vast_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    with (tmp_path / 'sparse').open('wb') as file:
        file.truncate(40 * 2**30)
    with pytest.raises(ValueError, match=f'^has 42949672960 bytes, expected at most {MAX_BYTES}$'):
        read_regular(tmp_path / 'sparse')
    assert read_regular(tmp_path / 'sparse', count=3) == bytes(3)
    monkeypatch.setattr(regular_file, 'MAX_BYTES', 5)
    (tmp_path / 'a').write_bytes(b'12345')
    assert read_regular(tmp_path / 'a') == b'12345'
