import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_labeller import BROKEN, KILLS, RAISES, Brightness

from mmseg_siglip.io.failures import Failure
from mmseg_siglip.labelling.rows import ahead, arrow_type, label_members, schema_of, write_table
from mmseg_siglip.labelling.shards import Encoded
from mmseg_siglip.later import Later


def members(*values):
    return [Encoded(f'{i}.png', f'p/{i}.png', bytes([value])) for i, value in enumerate(values)]


@pytest.mark.parametrize('batch_size', [1, 2, 3, 10])
def test_a_row_for_each_image_in_order(batch_size):
    told = []
    found = list(
        label_members(
            [*members(1, BROKEN, 2, RAISES, 3), Failure('gone', 'is no image')],
            Brightness({}),
            batch_size=batch_size,
            threads=2,
            told=told.append,
        )
    )
    assert sum(told) == 6
    assert [(row.get('mean'), row.get('failure')) for row in found] == [
        (1.0, None),
        (None, 'cannot be decoded'),
        (2.0, None),
        (None, 'RuntimeError: shapes'),
        (3.0, None),
        (None, 'is no image'),
    ]
    assert [row['name'] for row in found] == [f'{i}.png' for i in range(5)] + [None]
    assert [row['path'] for row in found] == [f'p/{i}.png' for i in range(5)] + ['gone']
    assert found[0]['height'] == 2 and found[0]['width'] == 3 and 'height' not in found[1]


def test_what_cannot_be_read_is_a_failure():
    class Gone:
        name, place = 'a.png', 'p/a.png'

        def read(self):
            raise ValueError('No such file or directory')

    (row,) = label_members([Gone()], Brightness({}), batch_size=2, threads=1)
    assert row == dict(name='a.png', path='p/a.png', failure='No such file or directory')


def test_a_full_disk_is_no_images_failure():
    class Full(Brightness):
        def begin(self, images):
            raise OSError(28, 'No space left on device')

    with pytest.raises(OSError, match='No space left'):
        list(label_members(members(1, 2), Full({}), batch_size=2, threads=1))


def test_rows_are_made_while_more_images_are_labelled():
    """The rows of the first batch wait until the labels of the second are there."""
    second = threading.Event()

    class Waits(Brightness):
        def label(self, images):
            if 3 in (found := super().label(images)):
                second.set()
            return found

        def rows(self, found):
            assert second.wait(30)
            return super().rows(found)

    found = label_members(members(1, 2, 3, 4), Waits({}), batch_size=2, threads=2)
    assert [row['mean'] for row in found] == [1, 2, 3, 4]


def begun_in_turn(*values, batch_size=2):
    """Rows of a labeller on a device of its own, and what was begun and waited for, in order."""
    events = []

    class Distant(Brightness):
        def begin(self, images):
            number = sum(what == 'begin' for what, _ in events)
            events.append(('begin', number))
            if values[0] == KILLS:
                raise RuntimeError('no memory')

            def arrive():
                events.append(('wait', number))
                return self.label(images)

            return Later(arrive, ready=False)

    found = label_members(members(*values), Distant({}), batch_size=batch_size, threads=1)
    return [row.get('mean', row.get('failure')) for row in found], events


def test_a_batch_is_begun_before_the_one_before_is_waited_for():
    found, events = begun_in_turn(1, 2, 3, 4, 5)
    assert found == [1, 2, 3, 4, 5]
    waits = [('begin', 0), ('begin', 1), ('wait', 0), ('begin', 2), ('wait', 1), ('wait', 2)]
    assert events == waits


def test_of_what_a_device_fails_for_each_is_tried_alone():
    """The second batch; the third is begun already."""
    found, events = begun_in_turn(1, 2, RAISES, 4, 5)
    assert found == [1, 2, 'RuntimeError: shapes', 4, 5]
    assert events[-6:-1] == [('wait', 1), ('begin', 3), ('wait', 3), ('begin', 4), ('wait', 4)]
    found, _ = begun_in_turn(KILLS, 2, 3)
    assert found == ['RuntimeError: no memory'] * 3


def test_what_has_no_rows_is_a_failure_of_its_image():
    class Picky(Brightness):
        def rows(self, found):
            if found == 2:
                raise ValueError('no row for this')
            if found == 4:
                raise OSError(28, 'No space left on device')
            return super().rows(found)

    found = label_members(members(1, 2, 3), Picky({}), batch_size=2, threads=1)
    assert [row.get('failure') for row in found] == [None, 'no row for this', None]
    with pytest.raises(OSError, match='No space left'):
        list(label_members(members(4), Picky({}), batch_size=2, threads=1))


def test_images_are_decoded_some_ahead_and_no_more():
    begun, lock = [], threading.Lock()

    def note(item):
        with lock:
            begun.append(item)
        return -item

    with ThreadPoolExecutor(2) as pool:
        found = ahead(pool, note, iter(range(100)), 5)
        assert [next(found) for _ in range(3)] == [0, -1, -2]
        time.sleep(0.05)
        assert len(begun) <= 3 + 6
        assert list(found) == [-item for item in range(3, 100)]


def test_tables(tmp_path):
    schema = schema_of(dict(found='list<int32>', complete='bool_'), dict(shard='s'))
    rows = [dict(name=f'{i}', found=[i], complete=True) for i in range(150)]
    with (tmp_path / 't.parquet').open('wb') as file:
        write_table(iter(rows), schema, file)
    with pq.ParquetFile(tmp_path / 't.parquet') as file:
        assert file.num_row_groups == 3 and file.metadata.num_rows == 150
        assert file.read().column('found')[149].as_py() == [149]
    assert (
        arrow_type('list<float32>') == pa.list_(pa.float32())
        and arrow_type('binary') == pa.binary()
    )
    with (tmp_path / 'none.parquet').open('wb') as file:
        write_table([], schema, file)
    assert pq.read_table(tmp_path / 'none.parquet').num_rows == 0
