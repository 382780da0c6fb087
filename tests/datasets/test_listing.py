"""Images and label maps by their names: all are used, or an error names them."""

from __future__ import annotations

import pytest

from mmseg_siglip.datasets.listing import (
    check_indices,
    first_few,
    list_files,
    pair_files,
    path_of,
    stem_of,
)

CITY = ('', '_leftImg8bit.png')


@pytest.fixture
def make(tmp_path):
    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    return make


def pairs(root, image=('', '.jpg'), truth=('', '.png'), folders=('i', 'm')):
    found = pair_files(str(root / folders[0]), image, str(root / folders[1]), truth)
    return [tuple(path.removeprefix(f'{root}/') for path in pair) for pair in found]


@pytest.mark.parametrize(
    ('path', 'pattern', 'any_kind', 'stem'),
    [
        ('a.jpg', ('', '.jpg'), False, 'a'),
        ('a.JPG', ('', '.jpg'), False, 'a'),
        ('b/a.JPEG', ('', '.jpg'), True, 'b/a'),
        ('a.JPEG', ('', '.jpg'), False, None),
        ('a.heic.txt', ('', '.jpg'), True, None),
        ('a', ('', '.jpg'), True, None),
        ('x/f_leftImg8bit.png', CITY, True, 'x/f'),
        ('f_leftImg8bit.tif', CITY, True, 'f'),
        ('f_rightImg8bit.png', CITY, True, None),
        ('f.color.jpg', ('', '.color.jpg'), True, 'f'),
        ('f.depth.png', ('', '.color.jpg'), True, None),
        ('rgb_01.png', ('rgb_', '.jpg'), True, '01'),
        ('01.png', ('rgb_', '.png'), True, None),
        ('scan', ('', ''), False, 'scan'),
    ],
)
def test_stems(path, pattern, any_kind, stem):
    assert stem_of(path, pattern, any_kind=any_kind) == stem
    if stem is not None and not any_kind:
        assert stem_of(path_of(stem, pattern), pattern) == stem


def test_every_kind_of_image_is_paired(tmp_path, make):
    make('i/a.jpg', 'i/b.JPG', 'i/c.jpeg', 'i/s/d.png', 'i/e.tif', 'i/notes.txt', 'i/.f.jpg')
    make('m/a.png', 'm/b.PNG', 'm/c.png', 'm/s/d.png', 'm/e.png', 'm/a_labelTrainIds.png')
    assert pairs(tmp_path) == [
        ('i/a.jpg', 'm/a.png'),
        ('i/b.JPG', 'm/b.PNG'),
        ('i/c.jpeg', 'm/c.png'),
        ('i/e.tif', 'm/e.png'),
        ('i/s/d.png', 'm/s/d.png'),
    ]


@pytest.mark.parametrize('folders', [('d', 'd'), ('d', 'd/m'), ('d/i', 'd')])
def test_one_folder_may_hold_both(tmp_path, make, folders):
    for name in ('a', 'b'):
        make(f'{folders[0]}/{name}.png', f'{folders[1]}/{name}_mask.png')
    found = pairs(tmp_path, ('', '.png'), ('', '_mask.png'), folders)
    assert found == [(f'{folders[0]}/{n}.png', f'{folders[1]}/{n}_mask.png') for n in ('a', 'b')]


def test_without_truths(tmp_path, make):
    make('i/a.jpg', 'i/b.JPG')
    assert [truth for _, truth in pair_files(str(tmp_path / 'i'), ('', '.jpg'))] == [None, None]


@pytest.mark.parametrize(
    ('names', 'sentence'),
    [
        (['m/a.png'], r'i: expected a folder, found no such one'),
        (
            ['i/a.txt', 'i/b.txt', 'm/a.png'],
            r'i: expected images named \*\.jpg, found none; in it lie a\.txt, b\.txt$',
        ),
        (
            ['i/a.jpg', 'm/a.tif', 'm/b.tif', 'm/c.tif', 'm/d.tif'],
            r'm: expected label or depth maps named \*\.png, found none; in it lie a\.tif, b\.tif, '
            r'c\.tif and 1 more$',
        ),
        (
            ['i/a.jpg', 'i/b.jpg', 'i/c.JPG', 'i/d.jpg', 'i/e.jpg', 'm/a.png'],
            r'i: 4 of 5 images have no label .*: b\.jpg, c\.JPG, d\.jpg and 1 more; expected for '
            r'the first .*m/b\.png',
        ),
        (
            ['i/a.jpg', 'm/a.png', 'm/b.png', 'm/c.png'],
            r'm: 2 of 3 label .* no image in .*i: b\.png, c\.png; .* ann_file',
        ),
        (['i/a.jpg', 'i/b.xyz', 'm/a.png', 'm/b.png'], r'b\.png \(b\.xyz is of no kind that is'),
        (['i/a.jpg', 'i/b', 'm/a.png', 'm/b.png'], r'b\.png \(b is of no kind that is read\)'),
        (
            ['i/a.jpg', 'i/a.png', 'm/a.png'],
            r'i: expected one file of a name, found a\.jpg, a\.png',
        ),
        (
            ['i/a.jpg', 'm/a.png', 'm/a.PNG'],
            r'm: expected one file of a name, found a\.PNG, a\.png',
        ),
    ],
)
def test_what_has_no_counterpart_is_named(tmp_path, make, names, sentence):
    make(*names)
    with pytest.raises(ValueError, match=sentence):
        pairs(tmp_path)


def test_links(tmp_path, make):
    make('far/a.jpg', 'i/b.jpg')
    (tmp_path / 'i/linked').symlink_to(tmp_path / 'far')
    (tmp_path / 'i/round').symlink_to(tmp_path / 'i')
    assert list_files(str(tmp_path / 'i')) == ['b.jpg', 'linked/a.jpg']
    (tmp_path / 'i/c.jpg').symlink_to(tmp_path / 'gone.jpg')
    with pytest.raises(ValueError, match=r'i: 1 links lead nowhere: c\.jpg'):
        pairs(tmp_path)


def test_first_few():
    assert [first_few('abcde'[:n]) for n in (1, 3, 5)] == ['a', 'a, b, c', 'a, b, c and 2 more']


@pytest.mark.parametrize('indices', [None, 1, 3, -3, [0, 2], [-1, -3], [1, 1]])
def test_indices_of_what_is_there(indices):
    check_indices(indices, 3, 'val')


@pytest.mark.parametrize('indices', [0, 4, -4, [], [0, 3], [-4], [0.5], 'ab'])
def test_indices_of_what_is_not_there(indices):
    with pytest.raises(ValueError, match='val: indices: expected some of its 3 samples, found'):
        check_indices(indices, 3, 'val')


def test_an_empty_folder_is_called_so(tmp_path):
    (tmp_path / 'i').mkdir()
    with pytest.raises(ValueError, match=r'i: expected images named \*\.jpg, found none; it is em'):
        pairs(tmp_path)
