import errno
import json
import os
from argparse import Namespace
from pathlib import Path

import pytest
from PIL import Image

from mmseg_siglip.cli.photographs import answer, keep
from mmseg_siglip.io.image import read_image


class Result:
    suffix = 'txt'

    def __init__(self, text):
        self.text = text

    def plot(self):
        return Image.new('RGB', (2, 2))

    def to_dict(self):
        return dict(text=self.text)


@pytest.mark.parametrize(
    ('found', 'names'),
    [
        (Result('é'), ['a.png']),
        ([Result('é')], ['a.png.1']),
        ([Result('é'), Result('b')], ['a.png.1', 'a.png.2']),
    ],
)
def test_data_picture_and_json_lie_side_by_side(tmp_path, found, names):
    keep(found, tmp_path / 'deep/a.png', lambda result, path: path.write_text(result.text))
    written = sorted(path.name for path in (tmp_path / 'deep').iterdir())
    assert written == sorted(f'{n}.{end}' for n in names for end in ('json', 'picture.png', 'txt'))
    assert json.loads((tmp_path / f'deep/{names[0]}.json').read_text('utf-8')) == dict(text='é')


class Reader:
    """A system that says how large an image is, and fails on some."""

    def check_prompt(self, prompt):
        return prompt

    def __call__(self, paths, prompt):
        sizes = [read_image(path).shape[:2] for path in paths]
        if (9, 9) in sizes:
            raise RuntimeError('not that one')
        return [Result(f'{size}') for size in sizes]


def ask_about(folder, out, batch_size=3):
    args = Namespace(images=[folder], out=out, frame=None)
    save = lambda result, path: path.write_text(result.text)  # noqa: E731
    answer(args, Reader, done='read', batch_size=batch_size, save=save)


@pytest.fixture
def mixed(tmp_path):
    """A good photograph, and much that is none."""
    folder = tmp_path / 'mixed'
    folder.mkdir()
    Image.new('RGB', (4, 4)).save(folder / 'a.jfif', 'JPEG')
    Image.new('RGB', (9, 9)).save(folder / 'b.png')
    Image.new('RGB', (5, 4)).save(folder / 'c', 'PNG')
    os.mkfifo(folder / 'pipe.jpg')
    (folder / 'zero.jpg').symlink_to('/dev/zero')
    with (folder / 'sparse.jpg').open('wb') as file:
        file.truncate(40 * 2**30)
    (folder / 'far.jxl').write_bytes(b'\xff\x0a' + bytes(9))
    (folder / 'notes.txt').write_text('text')
    return folder


def test_each_image_fails_alone_and_nothing_is_left_out_without_a_word(mixed, tmp_path, capsys):
    with pytest.raises(ValueError, match='^5 images could not be read: ') as caught:
        ask_about(mixed, tmp_path / 'out')
    for name, reason in {
        'b.png': 'RuntimeError: not that one',
        'pipe.jpg': 'is a named pipe, expected a regular file',
        'zero.jpg': 'is a device, expected a regular file',
        'sparse.jpg': 'has 42949672960 bytes, expected at most 1073741824',
        'far.jxl': 'is a JPEG XL image, expected one of AVIF',
    }.items():
        assert f'{mixed}/{name}: {reason}' in str(caught.value)
    printed = capsys.readouterr()
    assert '2 of 7 images read into' in printed.out
    assert f'1 files are no images and were passed over: {mixed}/notes.txt' in printed.err
    assert (tmp_path / 'out/a.jfif.txt').read_text() == '(4, 4)'
    assert (tmp_path / 'out/c.txt').read_text() == '(4, 5)'


def test_a_place_that_cannot_be_written_is_that_images(mixed, tmp_path):
    (tmp_path / 'out' / 'c.txt').mkdir(parents=True)
    with pytest.raises(ValueError, match='/c: Is a directory'):
        ask_about(mixed, tmp_path / 'out')
    assert (tmp_path / 'out/a.jfif.txt').read_text() == '(4, 4)'


def test_a_disk_that_is_full_ends_it(mixed, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Path, 'write_text', full)
    with pytest.raises(OSError, match='No space left'):
        ask_about(mixed, tmp_path / 'out')


def test_only_images_that_are_not_read(tmp_path):
    (tmp_path / 'far.jxl').write_bytes(b'\xff\x0a' + bytes(9))
    with pytest.raises(ValueError, match='far.jxl: is a JPEG XL image'):
        ask_about(tmp_path, None)
