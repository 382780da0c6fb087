import pickle

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tars import write_tar

from mmseg_siglip.io.failures import Failure
from mmseg_siglip.io.image_source import ImageEntry
from mmseg_siglip.labelling.shards import (
    FileShard,
    ParquetShard,
    TarShard,
    shard_name,
    stem_of_place,
)


def contents(shard):
    return {
        member.path if isinstance(member, Failure) else member.name: member.reason
        if isinstance(member, Failure)
        else member.read()
        for member in pickle.loads(pickle.dumps(shard)).members()  # noqa: S301
    }


def test_files(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'a')
    entries = (
        ImageEntry('a.jpg', str(tmp_path / 'a.jpg')),
        ImageEntry('../b.jpg', str(tmp_path / 'b.jpg')),
        Failure('c.jxl', 'is a JPEG XL image'),
    )
    assert contents(FileShard('s', 'three files', entries)) == {
        'a.jpg': b'a',
        str(tmp_path / 'b.jpg'): 'has a name that leads out of the folder',
        'c.jxl': 'is a JPEG XL image',
    }


MEMBERS = [('a.jpg', b'1'), ('x/b.png', b'2'), ('a.json', b'{}'), ('a.jpg', b'3')]
MEMBERS += [('../c.jpg', b'4')]


def test_a_tar_here_and_at_an_address(tmp_path):
    path = write_tar(tmp_path / 's-1.tar', MEMBERS)
    wanted = {'s-1/x/b.png': b'2', 's-1/a.jpg': b'3'}
    for place in (str(path), 'memory://bucket/s-1.tar'):
        with fsspec.open('memory://bucket/s-1.tar', 'wb') as file:
            file.write(path.read_bytes())
        refused = {f'{place}: ../c.jpg': 'has a name that leads out of the folder'}
        assert contents(TarShard('s', place)) == wanted | refused


def test_what_was_fetched_is_read_before_it_is_removed(tmp_path):
    path = write_tar(tmp_path / 's.tar', [(f'{i:02d}.jpg', bytes([i])) for i in range(20)])
    with fsspec.open('memory://bucket/s.tar', 'wb') as file:
        file.write(path.read_bytes())
    members = list(TarShard('s', 'memory://bucket/s.tar').members())
    assert [member.read() for member in members] == [bytes([i]) for i in range(20)]


def test_an_archive_that_cannot_be_read(tmp_path):
    (tmp_path / 'junk.tar').write_bytes(b'junk' * 300)
    ((place, reason),) = contents(TarShard('s', str(tmp_path / 'junk.tar'))).items()
    assert place == str(tmp_path / 'junk.tar') and 'is not a whole, uncompressed tar' in reason
    for place in (str(tmp_path / 'gone.tar'), 'memory://bucket/gone.tar'):
        with pytest.raises(ValueError, match='^no such file$'):
            contents(TarShard('s', place))
    with pytest.raises(ValueError, match='cannot be fetched'):
        contents(TarShard('s', 'nope://bucket/gone.tar'))


def test_a_table(tmp_path):
    images = [dict(bytes=b'1', path='a.png'), dict(bytes=None, path='/etc/passwd'), None]
    kind = pa.struct([('bytes', pa.binary()), ('path', pa.string())])
    path = tmp_path / 't.parquet'
    pq.write_table(pa.table(dict(image=pa.array(images, kind), other=[1, 2, 3])), path)
    assert contents(ParquetShard('s', str(path))) == {
        't/000000': b'1',
        f'{path}: row 1': 'expected the bytes of an image, found NoneType',
        f'{path}: row 2': 'expected the bytes of an image, found NoneType',
    }
    pq.write_table(pa.table(dict(photo=[b'x'] * 150)), path)
    assert len(contents(ParquetShard('s', str(path), 'photo'))) == 150
    with pytest.raises(ValueError, match="^expected a column 'image', found photo$"):
        contents(ParquetShard('s', str(path)))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match='^is no whole Parquet file: '):
        contents(ParquetShard('s', str(path), 'photo'))


def test_names_of_objects():
    assert stem_of_place('s3://bucket/a/shard-1.tar') == 'shard-1'
    one, two = shard_name('/a/shard 1.tar'), shard_name('/b/shard 1.tar')
    assert one != two and one.startswith('shard_1-') and two.startswith('shard_1-')
    assert shard_name('/a/ü/..hidden') != shard_name('/a/ü/..hidden', 'other content')
    assert shard_name('/a/').isascii() and '/' not in shard_name('/a/\udcff.jpg')
