import os

import pytest

from mmseg_siglip.io import lines
from mmseg_siglip.io.lines import lines_of_text

ENDS = ('\n', '\r\n', '\r', '\v', '\f', '\x85', '\u2028')


def read(path):
    return list(lines_of_text(path, 'a list'))


@pytest.mark.parametrize('part', [3, 4, 5, 7, 2**16])
def test_lines_wherever_parts_end(tmp_path, monkeypatch, part):
    """As of the whole text: characters of several bytes and ends of lines lie across parts."""
    monkeypatch.setattr(lines, 'PART', part)
    words = ['a', ' ä b ', '', '日本', '\t', '\U0001f431.jpg', 'x' * 40]
    for end in ENDS:
        for text in (end.join(words), end.join(words) + end, end + 2 * end.join(words), '', end):
            for mark in ('', '\ufeff'):
                (tmp_path / 'a').write_bytes((mark + text).encode())
                wanted = [line.strip() for line in text.splitlines() if line.strip()]
                assert read(tmp_path / 'a') == wanted


@pytest.mark.parametrize('part', [3, 4, 5, 2**16])
@pytest.mark.parametrize(
    ('data', 'found'),
    [
        (b'abc\nde\xff\n', 'invalid start byte at byte 6'),
        ('日本'.encode() + b'\xe6\x97\n', 'invalid continuation byte at byte 6'),
        ('abc\n日'.encode()[:-1], 'unexpected end of data at byte 4'),
        (b'\xef\xbb\xbfab\xff', 'invalid start byte at byte 5'),
        (b'abc\nd\0\n', r"the character '\x00'"),
        (b'abc\x1b', r"the character '\x1b'"),
        (b'a\n' + b'b' * 201 + b'\nc\n', 'a line of more than 200 characters'),
        (b'a\n' + b'b' * 201, 'a line of more than 200 characters'),
    ],
)
def test_what_is_no_text(tmp_path, monkeypatch, part, data, found):
    monkeypatch.setattr(lines, 'PART', part)
    monkeypatch.setattr(lines, 'LONGEST_LINE', 200)
    (tmp_path / 'a').write_bytes(data)
    with pytest.raises(ValueError) as caught:
        read(tmp_path / 'a')
    assert str(caught.value) == f'{tmp_path}/a: expected a list in UTF-8, found {found}'
    (tmp_path / 'a').write_bytes(b'a\n' + b'b' * 200)
    assert read(tmp_path / 'a') == ['a', 'b' * 200]


def test_a_file_without_an_end(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(ValueError, match='pipe is a named pipe, expected a regular file$'):
        read(tmp_path / 'pipe')
    with (tmp_path / 'vast').open('wb') as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=r"found the character '\\x00'$"):
        read(tmp_path / 'vast')
