import logging
import subprocess
import sys

import fsspec
import pytest

from mmseg_siglip.io.failures import OutputError
from mmseg_siglip.labelling.addresses import matching, on_disk, said_by_store
from mmseg_siglip.labelling.listing import Listing, without_stars
from mmseg_siglip.labelling.objects import ShardStore


@pytest.fixture
def bucket():
    fs = fsspec.filesystem('memory')
    fs.store.clear()
    for name in ('s-1.tar', 's-0.tar', 'deep/s-2.tar', 'notes.txt'):
        fs.pipe_file(f'/bucket/{name}', b'x')
    yield fs
    fs.store.clear()


def test_a_star_is_what_lies_there_sorted(bucket):
    assert matching('memory://bucket/s-*.tar') == [f'memory:///bucket/s-{n}.tar' for n in (0, 1)]
    assert len(matching('memory://bucket/**/s-*.tar')) == 3
    for text in ('memory://bucket/s-{0..9}.tar?a=1', '/local/s-*.tar'):
        assert list(without_stars(text)) == [text]
    with pytest.raises(ValueError, match=r'memory://bucket/t-\*\.tar: nothing lies there'):
        matching('memory://bucket/t-*.tar')
    with pytest.raises(ValueError, match=r'nope://\*\.tar: cannot be listed: Protocol not known'):
        matching('nope://*.tar')


def test_shards_of_a_star(bucket):
    listing = Listing(['memory://bucket/s-*.tar', 'memory:///bucket/s-0.tar'])
    places = [shard.place for shard in listing.shards()]
    assert places == [f'memory:///bucket/s-{n}.tar' for n in (0, 1)]
    assert [shard.place for shard in Listing(['memory://bucket/s-{0..1}*.tar']).shards()] == places
    assert listing.roots == ['memory:///bucket/s-0.tar', 'memory://bucket/s-*.tar']


class StoreError(Exception):
    """What botocore raises is no OSError."""


@pytest.mark.parametrize('method', ['exists', 'ls', 'cat_file', 'open'])
def test_a_store_that_cannot_be_reached_is_a_sentence(bucket, monkeypatch, method):
    bucket.pipe_file('/bucket/out/manifest.json', b'{}')
    bucket.pipe_file('/bucket/out/shards/s.parquet', b'PAR1')
    bucket.pipe_file('/bucket/out/shards.txt', b's')
    store = ShardStore('memory://bucket/out')
    asked = dict(
        exists=lambda: store.has('s'),
        ls=store.done,
        cat_file=store.settings,
        open=lambda: list(store.rows('s')),
    )

    def fail(*args, **options):
        raise StoreError('Could not connect\nin many lines')

    monkeypatch.setattr(type(store.fs), method, fail)
    message = r'^memory:///bucket/out\S*: cannot be reached: Could not connect$'
    with pytest.raises(OutputError, match=message):
        asked[method]()
    if method == 'open':
        with pytest.raises(OutputError, match=message):
            list(store.index())


def test_what_is_not_there():
    for error, expected in (
        (FileNotFoundError('http://store/upload/b/x/o'), 'no such bucket or folder'),
        (FileNotFoundError(2, 'No such file or directory'), 'No such file or directory'),
        (StoreError(), 'StoreError'),
    ):
        assert said_by_store(error) == expected
    with (
        pytest.raises(ValueError, match='^no such file$'),
        on_disk('memory://bucket/none.tar'),
    ):
        pass


def test_a_store_of_another_library_prints_no_traceback():
    code = (
        'import logging, mmseg_siglip.labelling.addresses\n'
        'try: 1 / 0\n'
        "except ZeroDivisionError: logging.getLogger('gcsfs').exception('out of retries')"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, '')
    assert logging.getLogger('gcsfs').propagate
