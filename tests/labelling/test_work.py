import errno
import io
import os
import tempfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tars import write_tar
from toy_labeller import BROKEN, Recipe, write_images

from mmseg_siglip.io.failures import OutputError
from mmseg_siglip.labelling.listing import Listing
from mmseg_siglip.labelling.objects import ShardStore
from mmseg_siglip.labelling.shards import TarShard
from mmseg_siglip.labelling.work import Task, Worker, WorkerSettings, commit_failure


@pytest.fixture
def worker(tmp_path):
    return Worker.build(WorkerSettings(Recipe(), str(tmp_path / 'out'), batch_size=2))


def test_a_shard_becomes_a_table(worker, tmp_path):
    (shard,) = Listing([write_images(tmp_path / 'in', [1, BROKEN, 3])]).shards()
    told = []
    assert worker.work(Task(shard), told.append) == 2 and sum(told) == 3
    table = pq.read_table(tmp_path / f'out/shards/{shard.name}.parquet')
    assert table.column('mean').to_pylist() == [1.0, None, 3.0]
    assert table.schema.metadata[b'shard'] == shard.name.encode()
    assert len(table.schema.metadata[b'settings']) == 64
    write_images(tmp_path / 'in', [9, 2, 9])
    assert worker.work(Task(shard, again=True)) == 1
    rows = {row['name']: row['mean'] for row in worker.store.rows(shard.name)}
    assert rows == {'000.png': 1.0, '001.png': 2.0, '002.png': 3.0}


def test_a_shard_that_cannot_be_read(worker, tmp_path):
    shard = TarShard('s', str(tmp_path / 'gone.tar'))
    assert worker.work(Task(shard)) == 0
    (row,) = worker.store.rows('s')
    assert (row['path'], row['failure']) == (f'{tmp_path}/gone.tar', 'no such file')


def test_a_worker_that_reaches_nothing_leaves_what_another_has_made(worker, tmp_path):
    members = [(f'{value}.png', bytes([value])) for value in (1, 2, 3)]
    path = write_tar(tmp_path / 's.tar', members)
    tar = TarShard('s', str(path))
    (files,) = Listing([write_images(tmp_path / 'in', [4, 5])]).shards()

    def found():
        return [row['failure'] or row['mean'] for s in ('s', files.name) for row in store.rows(s)]

    store = worker.store
    assert worker.work(Task(tar)) == 3 and worker.work(Task(files)) == 2
    os.rename(path, tmp_path / 'unmounted.tar')
    os.rename(tmp_path / 'in', tmp_path / 'unmounted')
    assert worker.work(Task(tar)) == 0 and worker.work(Task(files)) == 0
    assert found() == [1.0, 2.0, 3.0, 4.0, 5.0]
    for name in ('s', files.name):
        os.remove(store.path(name))
    assert worker.work(Task(tar)) == 0 and worker.work(Task(files)) == 0
    assert found() == ['no such file', *2 * ['No such file or directory']]
    path.write_bytes(b'junk')
    assert worker.work(Task(tar, again=True)) == 0
    assert 'is not a whole, uncompressed tar' in found()[0]
    os.replace(tmp_path / 'unmounted.tar', path)
    os.rename(tmp_path / 'unmounted', tmp_path / 'in')
    assert worker.work(Task(tar)) == 3 and worker.work(Task(files, again=True)) == 2
    assert found() == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_worker_that_reaches_a_part_leaves_what_another_has_made(worker, tmp_path):
    members = [(f'{value}.png', bytes([value])) for value in (1, 2, 3)]
    path, store = write_tar(tmp_path / 's.tar', members), worker.store
    tar, whole = TarShard('s', str(path)), path.read_bytes()

    def found():
        return [row['mean'] for row in store.rows('s')]

    path.write_bytes(whole[:1100])  # the header and data of the first, a part of the second's
    assert worker.work(Task(tar)) == 1 and found() == [1.0, None]
    path.write_bytes(whole)
    assert worker.work(Task(tar)) == 3 and found() == [1.0, 2.0, 3.0]
    path.write_bytes(whole[:1100])
    assert worker.work(Task(tar)) == 1 and found() == [1.0, 2.0, 3.0]
    table = Path(store.path('s')).read_bytes()
    other, bare = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table(dict(x=[1])), other)
    pq.write_table(pa.table(dict(failure=['x'])), bare, write_statistics=False)
    footless = table[:-200] + b'\xff' * 190 + table[-10:]
    for damaged in (b'no table', footless, other.getvalue(), bare.getvalue()):
        Path(store.path('s')).write_bytes(damaged)
        with pytest.raises(ValueError, match='no whole Parquet file|expected a column failure'):
            store.failed('s')
        assert worker.work(Task(tar)) == 1 and found() == [1.0, None]
    write_tar(path, [*members, ('4.png', b'')])
    assert worker.work(Task(tar)) == 3 and found() == [1.0, 2.0, 3.0, None]  # betters it
    path.write_bytes(bytes(len(whole)))  # a file whose bytes are to come
    assert worker.work(Task(tar)) == 0 and found() == [1.0, 2.0, 3.0, None]


@pytest.mark.parametrize('place', ['{}/out', 'memory://race/out'])
def test_a_part_that_comes_after_the_whole_is_left(tmp_path, place):
    """The other worker commits while this one's table is on its way."""
    settings = WorkerSettings(Recipe(), place.format(tmp_path), batch_size=2)
    one, other = Worker.build(settings), Worker.build(settings)
    path = write_tar(tmp_path / 's.tar', [(f'{v}.png', bytes([v])) for v in (1, 2, 3)])
    tar, whole, has = TarShard('s', str(path)), path.read_bytes(), one.store.has

    def has_and_then(name):
        before = has(name)
        path.write_bytes(whole)
        assert before or other.work(Task(tar)) == 3
        return before

    one.store.has = has_and_then
    path.write_bytes(whole[:1100])
    assert one.work(Task(tar)) == 1
    assert [row['mean'] for row in one.store.rows('s')] == [1.0, 2.0, 3.0]


def test_no_room_for_what_is_fetched_is_no_fault_of_the_shard(worker, tmp_path, monkeypatch):
    place = 'memory://bucket/fetched.tar'
    with fsspec.open(place, 'wb') as file:
        file.write(b'')

    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(type(fsspec.filesystem('memory')), 'get_file', full)
        with pytest.raises(OutputError, match=f'for {place}: cannot be written: .*No space left'):
            worker.work(Task(TarShard('s', place)))
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'gone'))
    with pytest.raises(OutputError, match=f'no temporary folder for {place}'):
        worker.work(Task(TarShard('s', place)))
    assert not worker.store.has('s')


def test_a_shard_of_which_nothing_could_be_made(tmp_path, monkeypatch):
    store, shard = ShardStore(tmp_path), TarShard('s', 'x.tar')
    columns = dict(mean='float32')
    assert commit_failure(store, shard, 'ended 4 workers', columns)
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'touch', lambda *_: pytest.fail('nothing is to be written'))
        assert not commit_failure(store, shard, 'ended 5 workers', columns)
    assert 'mean' in pq.read_table(tmp_path / 'shards/s.parquet').column_names
    (row,) = store.rows('s')
    assert (row['path'], row['failure']) == ('x.tar', 'ended 4 workers') and store.failed('s')
