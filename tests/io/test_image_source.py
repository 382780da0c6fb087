import os
import tarfile
from pathlib import Path
from typing import NamedTuple

import pytest
from tars import write_tar

from mmseg_siglip.io.failures import Failure
from mmseg_siglip.io.image_folder import find_images
from mmseg_siglip.io.image_kinds import FORMATS
from mmseg_siglip.io.image_source import ImageEntry, expand, listing, refuse_name


class Source(NamedTuple):
    """What an argument leads to, after its names were looked at."""

    root: Path
    entries: tuple[ImageEntry, ...]
    failures: tuple[Failure, ...]
    others: tuple[str, ...]


def opened(path):
    root, items = listing(Path(path))
    items = [refuse_name(i) or i if isinstance(i, ImageEntry) else i for i in items]
    kinds = (tuple(i for i in items if isinstance(i, kind)) for kind in (ImageEntry, Failure, str))
    return Source(root, *kinds)


def names(source):
    return [entry.name for entry in source.entries]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    (folder / 'more').mkdir(parents=True)
    for name in ('b.png', 'a.JPG', 'more/c.jpg', 'notes.txt'):
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_folder_is_searched_through(photos):
    source = opened(photos)
    assert names(source) == ['a.JPG', 'b.png', 'more/c.jpg']
    assert [entry.read() for entry in source.entries] == [b'a.JPG', b'b.png', b'more/c.jpg']
    assert source.root == photos and source.failures == ()
    assert source.others == (f'{photos}/notes.txt',)
    assert [path.name for path in find_images(photos).images] == ['a.JPG', 'b.png', 'c.jpg']


def test_a_list_names_paths_from_where_it_lies(photos, tmp_path, monkeypatch):
    elsewhere = tmp_path / 'x.jpg'
    elsewhere.write_bytes(b'x')
    lines = ['more/c.jpg', '', ' b.png ', 'b.png', f'{photos}/b.png', '../x.jpg', 'gone.jpg']
    (photos / 'list.txt').write_bytes('\r\n'.join(lines).encode('utf-8-sig'))
    monkeypatch.chdir(tmp_path)
    source = opened('photos/list.txt')
    wanted = ['more/c.jpg', *3 * ['b.png'], str(elsewhere)[1:], 'gone.jpg']
    assert names(source) == wanted
    read = {entry.name: entry.read() for entry in source.entries if entry.name != 'gone.jpg'}
    assert read[str(elsewhere)[1:]] == b'x' and read['b.png'] == b'b.png'


def test_of_a_member_that_a_tar_holds_twice_the_last_counts(tmp_path):
    shard = write_tar(tmp_path / 's.tar', [('a.jpg', b'old'), ('a.jpg', b'new')])
    (entry,) = opened(shard).entries
    assert entry.read() == b'new'


def test_a_broken_shard_is_a_failure_and_its_whole_members_are_kept(tmp_path):
    shard = write_tar(tmp_path / 'cut.tar', [(f'{i}.jpg', bytes(2000)) for i in range(4)])
    shard.write_bytes(shard.read_bytes()[:6000])
    (tmp_path / 'junk.tar').write_bytes(b'junk' * 500)
    assert set(names(opened(shard))) >= {'cut/0.jpg', 'cut/1.jpg'}
    failures = [*opened(shard).failures, *opened(tmp_path / 'junk.tar').failures]
    assert [failure.path for failure in failures] == [str(shard), f'{tmp_path}/junk.tar']
    assert all('is not a whole, uncompressed tar' in failure.reason for failure in failures)


@pytest.mark.parametrize(
    ('break_it', 'reason'),
    [
        (lambda tar: tar[:1024], 'expected an empty block at its end, found none'),
        (lambda tar: tar[:1300], 'expected an empty block at its end, found none'),
        (lambda tar: tar[:1030] + b'?' + tar[1031:], 'expected an empty block at its end'),
        (lambda tar: tar + tar, 'expected nothing behind its empty blocks, found more'),
        (lambda tar: tar + bytes(2**21) + tar, 'expected nothing behind its empty blocks'),
    ],
    ids=['between members', 'in a header', 'a broken header', 'a second tar', 'far behind'],
)
def test_no_member_of_a_tar_is_passed_over(tmp_path, break_it, reason):
    shard = write_tar(tmp_path / 's.tar', [('a.jpg', b'a'), ('b.jpg', b'b')])
    assert names(opened(shard)) == ['s/a.jpg', 's/b.jpg'] and not opened(shard).failures
    shard.write_bytes(break_it(shard.read_bytes()))
    assert names(opened(shard))[0] == 's/a.jpg'
    (failure,) = opened(shard).failures
    assert failure.path == str(shard) and reason in failure.reason


def test_names_that_lead_out_are_failures(tmp_path):
    bad = ['../../out.jpg', 'a/../../b.jpg', f'{"x" * 250}.jpg']
    shard = write_tar(tmp_path / 's.tar', [(name, b'') for name in ['fine.jpg', *bad]])
    source = opened(shard)
    assert names(source) == ['s/fine.jpg']
    assert [failure.path for failure in source.failures] == [f'{shard}: {name}' for name in bad]
    assert source.failures[0] == Failure(
        f'{shard}: ../../out.jpg', 'has a name that leads out of the folder'
    )


def test_a_member_has_one_name(tmp_path):
    shard = write_tar(
        tmp_path / 's.tar', [('a/b.png', b'1'), ('a/./b.png', b'2'), ('./a//b.png', b'3')]
    )
    (entry,) = opened(shard).entries
    assert entry.name == 's/a/b.png' and entry.read() == b'3'
    assert entry.place == f'{shard}: a/b.png'


def vast_header(name, kind=tarfile.REGTYPE, size=2**62):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ('header', 'reasons'),
    [
        (
            vast_header('huge.png'),
            ['s.tar: huge.png: has 4611686018427387904 bytes, expected at most', 's.tar: is not a'],
        ),
        (vast_header('x', tarfile.GNUTYPE_LONGNAME), ['s.tar: is not a whole']),
        (vast_header('x', tarfile.XHDTYPE, 2**40), ['s.tar: is not a whole']),
        (vast_header('minus.png', size=-5), ['s.tar: is not a whole']),
    ],
    ids=['member', 'name', 'header', 'negative'],
)
def test_sizes_that_a_tar_claims_are_not_believed(tmp_path, header, reasons):
    shard = write_tar(tmp_path / 's.tar', [('fine.jpg', b'fine')])
    whole = shard.read_bytes()[:1024]
    shard.write_bytes(whole + header + bytes(4096))
    source = opened(shard)
    assert names(source) == ['s/fine.jpg']
    assert len(source.failures) == len(reasons)
    for failure, reason in zip(source.failures, reasons, strict=True):
        assert f'{tmp_path}/{reason}' in str(failure)


def test_a_member_that_the_tar_cuts_short(tmp_path):
    shard = write_tar(tmp_path / 's.tar', [('a.jpg', bytes(3000))])
    shard.write_bytes(shard.read_bytes()[:2000])
    (entry,) = opened(shard).entries
    with pytest.raises(ValueError, match='^is cut short: expected 3000 bytes, found 1488$'):
        entry.read()


def test_members_are_images_by_what_they_hold_too(tmp_path):
    shard = write_tar(
        tmp_path / 's.tar',
        [('a', b'\xff\xd8\xff\xe0 jpeg'), ('a.json', b'{}'), ('b', b''), ('c.jxl', b'\xff\x0a')],
    )
    source = opened(shard)
    assert names(source) == ['s/a'] and source.others == ()
    (failure,) = source.failures
    assert str(failure).startswith(f'{shard}: c.jxl: is a JPEG XL image')


def test_lists_of_odd_paths(tmp_path, photos):
    """Too long for a disk, or with a byte that no path has: failures of their own."""
    deep = '/'.join(['d' * 100] * 50)
    (tmp_path / 'list.txt').write_text(f'photos/b.png\n{"q" * 5000}.jpg\n{deep}.jpg\n')
    source = opened(tmp_path / 'list.txt')
    assert names(source) == ['photos/b.png']
    assert [failure.reason for failure in source.failures] == [
        'has a name of more than 240 bytes',
        'has a path of more than 3800 bytes',
    ]


def test_a_photograph_that_is_no_list(tmp_path):
    (tmp_path / 'd.heic').write_bytes(b'\0\0\0\x18ftypheic' + bytes(40))
    (tmp_path / 'e.jxl').write_bytes(b'\xff\x0a' + bytes(40))
    if 'HEIF' not in FORMATS:
        (failure,) = opened(tmp_path / 'd.heic').failures
        assert failure.reason.startswith('is a HEIC photograph, which needs pillow-heif')
    (failure,) = opened(tmp_path / 'e.jxl').failures
    assert failure.reason.startswith('is a JPEG XL image')
    (tmp_path / 'noext').write_bytes(b'\xff\xd8\xff\xe0')
    assert names(opened(tmp_path / 'noext')) == ['noext']


def test_ranges():
    assert list(expand('s-{08..10}.tar')) == ['s-08.tar', 's-09.tar', 's-10.tar']
    assert list(expand('{0..1}/{2..3}')) == ['0/2', '0/3', '1/2', '1/3']
    assert list(expand('{a,b}.jpg')) == ['{a,b}.jpg']
    with pytest.raises(ValueError, match='a range that goes up, found {3..1}'):
        list(expand('s-{3..1}.tar'))


def test_one_sentence_for_what_is_not_there(photos, tmp_path):
    (tmp_path / 'binary.txt').write_bytes(b'\xff\xfe')
    (tmp_path / 'zero.txt').write_bytes(b'a.jpg\n\0\0\x1b[2J')
    with (tmp_path / 'vast.txt').open('wb') as file:
        file.truncate(2**40)
    os.mkfifo(tmp_path / 'pipe')
    for name, message in (
        ('absent', 'absent: no such folder, image, list or tar file'),
        ('binary.txt', 'expected a list of paths in UTF-8'),
        ('zero.txt', r"of paths in UTF-8, found the character '\\x00'"),
        ('vast.txt', r"vast.txt: expected a list of paths in UTF-8, found the character '\\x00'"),
        ('pipe', 'pipe: no such folder, image, list or tar file'),
    ):
        with pytest.raises(ValueError, match=message):
            opened(tmp_path / name)


def test_a_file_that_is_gone_is_found_out_when_it_is_read(tmp_path):
    with pytest.raises(ValueError, match='^No such file or directory$'):
        ImageEntry('a.jpg', str(tmp_path / 'a.jpg')).read()
