import io
import tarfile

import pytest

from mmseg_siglip.io.image_source import Failure, ImageEntry, ImageSource, expand, find_images


def write_tar(path, members):
    with tarfile.open(path, 'w') as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


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
    source = ImageSource.open([str(photos)])
    assert names(source) == ['a.JPG', 'b.png', 'more/c.jpg']
    assert [entry.read() for entry in source.entries] == [b'a.JPG', b'b.png', b'more/c.jpg']
    assert source.roots == (str(photos),) and source.failures == ()
    assert [path.name for path in find_images(photos)] == ['a.JPG', 'b.png', 'c.jpg']


def test_a_list_names_paths_from_where_it_lies(photos, tmp_path, monkeypatch):
    elsewhere = tmp_path / 'x.jpg'
    elsewhere.write_bytes(b'x')
    lines = ['more/c.jpg', '', ' b.png ', 'b.png', f'{photos}/b.png', '../x.jpg', 'gone.jpg']
    (photos / 'list.txt').write_bytes('\r\n'.join(lines).encode('utf-8-sig'))
    monkeypatch.chdir(tmp_path)
    source = ImageSource.open(['photos/list.txt'])
    assert names(source) == sorted(['b.png', 'gone.jpg', 'more/c.jpg', str(elsewhere)[1:]])
    read = {entry.name: entry.read() for entry in source.entries if entry.name != 'gone.jpg'}
    assert read[str(elsewhere)[1:]] == b'x' and read['b.png'] == b'b.png'


def test_what_several_arguments_name_counts_once(photos, tmp_path, monkeypatch):
    (tmp_path / 'list.txt').write_text('photos/b.png\nphotos/gone.jpg\n')
    monkeypatch.chdir(tmp_path)
    source = ImageSource.open(['photos', 'list.txt', str(photos / 'b.png')])
    assert names(source) == ['a.JPG', 'b.png', 'more/c.jpg', 'photos/gone.jpg']
    assert source.roots == (str(tmp_path / 'list.txt'), str(photos))


def test_shards(tmp_path):
    for number in range(3):
        members = [(f'{number}{i}.jpg', bytes([number, i])) for i in range(2)]
        members += [(f'{number}0.json', b'{}'), (f'./deep/{number}.png', b'deep')]
        write_tar(tmp_path / f'shard-{number:03d}.tar', members)
    source = ImageSource.open([f'{tmp_path}/shard-{{000..002}}.tar'])
    expected = [
        f'shard-{number:03d}/{name}'
        for number in range(3)
        for name in (f'{number}0.jpg', f'{number}1.jpg', f'deep/{number}.png')
    ]
    assert names(source) == expected
    assert source.entries[4].read() == bytes([1, 1]) and source.entries[5].read() == b'deep'
    assert source.entries[4].place == f'{tmp_path}/shard-001.tar: 11.jpg'
    several = [str(tmp_path / f'shard-{number:03d}.tar') for number in range(3)]
    assert ImageSource.open(several) == source


def test_of_a_member_that_a_tar_holds_twice_the_last_counts(tmp_path):
    shard = write_tar(tmp_path / 's.tar', [('a.jpg', b'old'), ('a.jpg', b'new')])
    (entry,) = ImageSource.open([str(shard)]).entries
    assert entry.read() == b'new'


def test_a_broken_shard_is_a_failure_and_its_whole_members_are_kept(tmp_path):
    shard = write_tar(tmp_path / 'cut.tar', [(f'{i}.jpg', bytes(2000)) for i in range(4)])
    shard.write_bytes(shard.read_bytes()[:6000])
    (tmp_path / 'junk.tar').write_bytes(b'junk' * 500)
    source = ImageSource.open([str(shard), str(tmp_path / 'junk.tar')])
    assert set(names(source)) >= {'cut/0.jpg', 'cut/1.jpg'}
    assert [failure.path for failure in source.failures] == [str(shard), f'{tmp_path}/junk.tar']
    assert all('not a whole, uncompressed tar' in failure.reason for failure in source.failures)


def test_names_that_lead_out_are_failures(tmp_path):
    bad = ['../../out.jpg', 'a/../../b.jpg', f'{"x" * 250}.jpg']
    shard = write_tar(tmp_path / 's.tar', [(name, b'') for name in ['fine.jpg', *bad]])
    source = ImageSource.open([str(shard)])
    assert names(source) == ['s/fine.jpg']
    assert [failure.path for failure in source.failures] == [f'{shard}: {name}' for name in bad]
    assert source.failures[0] == Failure(
        f'{shard}: ../../out.jpg', 'the name leads out of the folder'
    )


def test_ranges():
    assert list(expand('s-{08..10}.tar')) == ['s-08.tar', 's-09.tar', 's-10.tar']
    assert list(expand('{0..1}/{2..3}')) == ['0/2', '0/3', '1/2', '1/3']
    assert list(expand('{a,b}.jpg')) == ['{a,b}.jpg']
    with pytest.raises(ValueError, match='a range that goes up, found {3..1}'):
        list(expand('s-{3..1}.tar'))


def test_one_sentence_for_what_is_not_there(photos, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'empty.txt').write_text('\n')
    (tmp_path / 'binary.txt').write_bytes(b'\xff\xfe')
    (tmp_path / 'b.png').write_bytes(b'another')
    for arguments, message in (
        (['absent'], 'absent: no such folder, image, list or tar file'),
        (['s-{0..1}.tar'], 's-0.tar: no such'),
        ([tmp_path / 'empty'], 'no images in this folder'),
        ([tmp_path / 'empty.txt'], 'no images found'),
        ([tmp_path / 'binary.txt'], 'expected a list of paths in UTF-8'),
        ([photos, tmp_path / 'b.png'], 'have one name: b.png'),
    ):
        with pytest.raises(ValueError, match=message):
            ImageSource.open([str(argument) for argument in arguments])


def test_a_file_that_is_gone_is_found_out_when_it_is_read(tmp_path):
    with pytest.raises(OSError):
        ImageEntry('a.jpg', str(tmp_path / 'a.jpg')).read()
