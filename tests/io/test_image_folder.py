import os
from pathlib import Path

import pytest
from PIL import Image

from mmseg_siglip.io.image_folder import below, find_images, passed_over
from mmseg_siglip.io.image_kinds import FORMATS


@pytest.fixture
def phone(tmp_path):
    """A folder as a telephone and its owner leave it."""
    folder, far = tmp_path / 'phone', tmp_path / 'far'
    folder.mkdir()
    far.mkdir()
    image = Image.new('RGB', (8, 8))
    image.save(folder / 'a.JPG', 'JPEG')
    image.save(folder / 'b.jfif', 'JPEG')
    image.save(folder / 'noext', 'JPEG')
    image.save(folder / 'c.avif', 'PNG')
    image.save(far / 'z.jpg')
    (folder / 'sub').symlink_to(far)
    (folder / 'd.heic').write_bytes(b'\0\0\0\x18ftypheic' + bytes(40))
    (folder / 'notes.txt').write_text('not an image')
    return folder


def relative(paths, folder):
    return [path.relative_to(folder).as_posix() for path in paths]


def test_nothing_is_left_out_without_a_word(phone):
    found = find_images(phone)
    heic = ['d.heic'] if 'HEIF' in FORMATS else []
    names = ['a.JPG', 'b.jfif', 'c.avif', *heic, 'noext', 'sub/z.jpg']
    assert relative(found.images, phone) == names
    assert relative(found.others, phone) == ['notes.txt']
    if not heic:
        (failure,) = found.failures
        assert str(failure).startswith(f'{phone}/d.heic: is a HEIC photograph, which needs')


def test_links_lead_everywhere_once(tmp_path):
    one = tmp_path / 'one'
    (one / 'z' / 'deep').mkdir(parents=True)
    for name in ('z/x.jpg', 'z/deep/y.jpg'):
        (one / name).write_bytes(b'')
    (one / 'a').symlink_to('z')  # comes first by name, and is no better a name
    (one / 'z' / 'deep' / 'up').symlink_to(one)
    (one / 'out').symlink_to(tmp_path)
    (one / 'self').symlink_to('self')
    assert relative(sorted(below(one)), one) == ['self', 'z/deep/y.jpg', 'z/x.jpg']
    (tmp_path / 'two').mkdir()
    (tmp_path / 'two' / 'w.jpg').write_bytes(b'')
    (one / 'b').symlink_to('../two')
    (one / 'c').symlink_to('../two')
    assert relative(find_images(one).images, one) == ['b/w.jpg', 'z/deep/y.jpg', 'z/x.jpg']


def test_what_is_no_file(tmp_path):
    """By its suffix an image: it will fail; else passed over. A folder is never an image."""
    for name in ('pipe', 'pipe.jpg'):
        os.mkfifo(tmp_path / name)
    for name in ('gone', 'gone.png'):
        (tmp_path / name).symlink_to('nowhere')
    (tmp_path / 'folder.jpg').mkdir()
    found = find_images(tmp_path)
    assert relative(found.images, tmp_path) == ['gone.png', 'pipe.jpg']
    assert relative(found.others, tmp_path) == ['gone', 'pipe'] and not found.failures


def test_a_folder_that_cannot_be_looked_into_is_named(tmp_path, monkeypatch):
    (tmp_path / 'shut').mkdir()
    (tmp_path / 'a.jpg').write_bytes(b'')
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == 'shut':
            raise PermissionError(13, 'Permission denied', str(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    found = find_images(tmp_path)
    assert relative(found.images, tmp_path) == ['a.jpg']
    assert [str(failure) for failure in found.failures] == [f'{tmp_path}/shut: Permission denied']


def test_a_file_that_is_named_is_taken(tmp_path):
    (tmp_path / 'odd.bin').write_bytes(b'who knows')
    assert find_images(tmp_path / 'odd.bin').images == (tmp_path / 'odd.bin',)
    (tmp_path / 'x.jxl').write_bytes(b'\xff\x0a' + bytes(9))
    (failure,) = find_images(tmp_path / 'x.jxl').failures
    assert failure.reason.startswith('is a JPEG XL image')
    with pytest.raises(ValueError, match='gone.jpg: no such image or folder'):
        find_images(tmp_path / 'gone.jpg')
    (tmp_path / 'texts').mkdir()
    (tmp_path / 'texts' / 'a.txt').write_text('text')
    with pytest.raises(ValueError, match='texts: no images in this folder; looked for '):
        find_images(tmp_path / 'texts')


def test_a_sentence_about_others():
    assert passed_over(['a', 'b']) == '2 files are no images and were passed over: a, b'
    assert passed_over(list('abcdefg')).endswith('over: a, b, c, d, e and 2 more')
