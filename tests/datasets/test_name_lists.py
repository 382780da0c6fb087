"""Lists as people write them: blanks, marks, line ends, suffixes; what is not there is named."""

from __future__ import annotations

import pytest

from mmseg_siglip.datasets import name_lists
from mmseg_siglip.datasets.name_lists import check_files, named_pairs, numbered_lines, read_names


@pytest.fixture
def lay_out(tmp_path):
    def lay_out(data, *names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / 'val.txt').write_bytes(data)

    return lay_out


def named(root, image=('', '.jpg'), truth=('', '.png'), folders=('i', 'm')):
    images, truths = (str(root / folder) for folder in folders)
    found = named_pairs(str(root / 'val.txt'), images, image, truths, truth)
    return [tuple(path.removeprefix(f'{root}/') for path in pair) for pair in found]


FILES = ('i/0.jpg', 'i/s/1.jpg', 'm/0.png', 'm/s/1.png')


@pytest.mark.parametrize(
    'data',
    [
        b'0\ns/1\n',
        b'0\r\n\r\ns/1\r\n',
        b'\xef\xbb\xbf0\ns/1',
        b'  0 \n\t\n s/1\t\n\n',
        b'0.jpg\ns/1.jpg\n',
        b'0.JPG\rs/1\r',
    ],
)
def test_habits_of_writing(tmp_path, lay_out, data):
    lay_out(data, *FILES)
    assert named(tmp_path) == [('i/0.jpg', 'm/0.png'), ('i/s/1.jpg', 'm/s/1.png')]


def test_the_order_of_the_list_and_other_kinds(tmp_path, lay_out):
    lay_out(b'b\na.b\nc\n', 'i/a.b.JPG', 'i/b.png', 'i/c.jpg', 'i/c.jpeg', 'i/other.jpg')
    for name in ('a.b', 'b', 'c'):
        (tmp_path / 'm').mkdir(exist_ok=True)
        (tmp_path / f'm/{name}.PNG').touch()
    images = [image for image, _ in named(tmp_path)]
    assert images == ['i/b.png', 'i/a.b.JPG', 'i/c.jpg']


def test_one_folder_of_both(tmp_path, lay_out):
    lay_out(b'a\n', 'd/a.png')
    with pytest.raises(ValueError, match=r'1 of the 1 images .* not there: .*a\.jpg'):
        named(tmp_path, folders=('d', 'd'))
    lay_out(b'a\n', 'd/a.jpeg')
    assert named(tmp_path, folders=('d', 'd')) == [('d/a.jpeg', 'd/a.png')]


@pytest.mark.parametrize(
    ('data', 'sentence'),
    [
        (b'', 'val.txt: expected the name of an image on each line, found none'),
        (b'\n \n', 'val.txt: expected the name of an image on each line, found none'),
        (b'\xff\xfe0\0', 'val.txt: expected a list in UTF-8, found invalid start byte at byte 0'),
        (
            b'0\na\nb\nc\nd\n',
            r'val.txt: 4 of the 5 images that it names are not there: .*i/a\.jpg, .*i/b\.jpg, '
            r'.*i/c\.jpg and 1 more',
        ),
        (b'0\n2\n', r'val.txt: 1 of the 2 label or depth maps .* not there: .*m/2\.png'),
        (b'3\n', r'i: expected one file of a name, found 3\.png, 3\.tif'),
    ],
)
def test_what_is_wrong_with_a_list(tmp_path, lay_out, data, sentence):
    lay_out(data, *FILES, 'i/2.jpg', 'i/3.png', 'i/3.tif')
    with pytest.raises(ValueError, match=sentence):
        named(tmp_path)


def test_no_list(tmp_path):
    with pytest.raises(ValueError, match='val.txt cannot be read: No such file'):
        read_names(str(tmp_path / 'val.txt'))
    with pytest.raises(ValueError, match='cannot be read: Is a directory'):
        read_names(str(tmp_path))


def test_a_name_that_stands_twice_is_told(tmp_path, lay_out, monkeypatch):
    said = []
    monkeypatch.setattr(name_lists, 'print_log', lambda text, *_: said.append(text))
    lay_out(b'0\ns/1\n0\n', *FILES)
    assert len(named(tmp_path)) == 3
    (line,) = said
    assert 'val.txt names 1 images more than once, which count as often: 0' in line


def test_lines_keep_their_numbers(tmp_path):
    (tmp_path / 'a.txt').write_bytes(b'x\r\n\r\n y z \n')
    assert numbered_lines(str(tmp_path / 'a.txt')) == [(1, 'x'), (3, 'y z')]


def test_dangling_links_and_addresses(tmp_path):
    link = tmp_path / 'a.jpg'
    link.symlink_to(tmp_path / 'gone.jpg')
    with pytest.raises(ValueError, match=r'list: 1 of the 2 images that it names .*a\.jpg'):
        check_files([str(link), 's3://bucket/b.jpg', str(link)], 'images', 'list')
