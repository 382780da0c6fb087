import errno
import multiprocessing
import os
import tempfile

import fsspec
import pyarrow.parquet as pq
import pytest

from mmseg_siglip.io.failures import OutputError
from mmseg_siglip.labelling import objects
from mmseg_siglip.labelling.objects import ShardStore
from mmseg_siglip.labelling.rows import schema_of, write_table

ROWS = [dict(name='a.jpg', path='p/a.jpg', png=b'1'), dict(path='p/b', failure='is empty')]
SCHEMA = schema_of(dict(png='binary'), dict(shard='s'))


def table(rows=ROWS):
    return lambda file: write_table(rows, SCHEMA, file)


@pytest.fixture(params=['folder', 'memory'])
def store(request, tmp_path):
    if request.param == 'folder':
        return ShardStore(tmp_path / 'out')
    fs = fsspec.filesystem('memory')
    fs.store.clear()
    return ShardStore('memory://bucket/out')


def test_what_is_put_is_there(store):
    assert len(store.done()) == 0 and not store.has('s-1')
    assert store.put('s-1', table()) and store.has('s-1')
    done = store.done()
    assert 's-1' in done and 's-2' not in done and len(done) == 1
    rows = list(store.rows('s-1'))
    assert [row['name'] for row in rows] == ['a.jpg', None] and rows[0]['png'] == b'1'
    assert [row['failure'] for row in rows] == [None, 'is empty']
    assert store.failed('s-1') and store.count('s-1') == (1, 2)
    store.put('s-1', table(ROWS[:1]))
    assert not store.failed('s-1') and len(list(store.rows('s-1'))) == 1


def test_a_failure_never_takes_the_place_of_a_result(store):
    store.put('s', table(ROWS[:1]))
    assert not store.put('s', table(ROWS[1:]), replaces=lambda: False)
    assert [row['failure'] for row in store.rows('s')] == [None]
    assert store.put('t', table(ROWS[1:]), replaces=lambda: False) and store.has('t')


def test_what_ends_in_the_middle_was_never_there(store):
    def cut(file):
        file.write(b'half')
        raise RuntimeError('killed')

    with pytest.raises(RuntimeError, match='killed'):
        store.put('s', cut)
    assert not store.has('s') and len(store.done()) == 0


def put_and_die(folder):
    def die(file):
        file.write(b'half')
        file.flush()
        os._exit(9)

    ShardStore(folder).put('s', die)


def test_a_draft_that_a_kill_left_is_removed_in_the_end(tmp_path):
    process = multiprocessing.get_context('spawn').Process(target=put_and_die, args=(tmp_path,))
    process.start()
    process.join()
    store = ShardStore(tmp_path)
    assert len(os.listdir(tmp_path / 'shards')) == 1 and len(store.done()) == 0
    store.put('t', table())
    store.remove_drafts()
    assert os.listdir(tmp_path / 'shards') == ['t.parquet']


def test_settings(store):
    store.claim(dict(words=['cat', 'dog'], size=3))
    store.claim(dict(words=['cat', 'dog'], size=3))
    assert store.settings() == dict(words=['cat', 'dog'], size=3)
    message = r'was filled with other settings \(words cat, dog, now cat\): choose another folder'
    with pytest.raises(ValueError, match=message):
        store.claim(dict(words=['cat'], size=3))


def test_another_folder(tmp_path):
    (tmp_path / 'mine.txt').write_text('')
    with pytest.raises(ValueError, match=r'expected an empty folder or one with .*found mine\.txt'):
        ShardStore(tmp_path).claim(dict(a=1))
    with pytest.raises(ValueError, match=r'expected manifest\.json, found none'):
        ShardStore(tmp_path / 'absent').settings()
    with pytest.raises(ValueError, match=r'expected shards\.txt of a run that has ended'):
        list(ShardStore(tmp_path).index())
    (tmp_path / 'manifest.json').write_text('[]')
    with pytest.raises(ValueError, match='is not the manifest of such a folder'):
        ShardStore(tmp_path).settings()
    (tmp_path / 'shards').mkdir()
    (tmp_path / 'shards/s.parquet').write_bytes(b'PAR1')
    with pytest.raises(ValueError, match='is no whole Parquet file'):
        list(ShardStore(tmp_path).rows('s'))
    with pytest.raises(ValueError, match=r't\.parquet: no such file'):
        list(ShardStore(tmp_path).rows('t'))


def test_the_index(store):
    assert store.write_index(f's-{n}' for n in range(3)) == 3
    assert list(store.index()) == ['s-0', 's-1', 's-2']


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_cannot_be_written_ends_all(tmp_path, monkeypatch, code):
    def fail(*args, **options):
        raise OSError(code, os.strerror(code))

    store = ShardStore(tmp_path)
    monkeypatch.setattr(objects, 'whole_file', fail)
    with pytest.raises(OutputError, match=f'cannot be written: {os.strerror(code)}'):
        store.put('s', table())
    with pytest.raises(OutputError, match='cannot be written'):
        store.claim(dict(a=1))


def test_an_object_storage_that_fails(monkeypatch):
    store = ShardStore('memory://bucket/full')

    def fail(*args, **options):
        raise ConnectionError('slow down')

    monkeypatch.setattr(type(store.fs), 'pipe_file', fail)
    with pytest.raises(OutputError, match='cannot be written: slow down'):
        store.put('s', table())
    monkeypatch.setattr(tempfile, 'tempdir', '/gone')
    with pytest.raises(OutputError, match='cannot be written to a temporary file'):
        store.put('s', table())


def test_addresses_that_cannot_be(monkeypatch):
    with pytest.raises(ValueError, match='nope://x: Protocol not known: nope'):
        ShardStore('nope://x')


def test_a_table_is_read_by_others(tmp_path):
    ShardStore(tmp_path).put('s', table())
    found = pq.read_table(tmp_path / 'shards/s.parquet')
    assert found.column_names == ['name', 'path', 'height', 'width', 'png', 'failure']
    assert found.schema.metadata[b'shard'] == b's'
