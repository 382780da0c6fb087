import json

import pytest

from mmseg_siglip.io.failures import Failure, Failures, write_failures


@pytest.mark.parametrize(
    ('error', 'reason'),
    [
        (ValueError('a.jpg is an\nempty file'), 'is an empty file'),
        (ValueError('a.jpg: expected sides'), 'expected sides'),
        (PermissionError(13, 'Permission denied', 'a.jpg'), 'Permission denied'),
        (MemoryError(), 'MemoryError'),
        (RuntimeError('CUDA out of memory'), 'RuntimeError: CUDA out of memory'),
    ],
)
def test_a_reason_is_one_line_without_the_name(error, reason):
    assert Failure.of('a.jpg', error) == Failure('a.jpg', reason)
    assert str(Failure.of('a.jpg', error)) == f'a.jpg: {reason}'


def test_a_file_of_failures_is_there_while_there_are_some(tmp_path):
    path = tmp_path / 'failures.jsonl'
    failures = Failures(iter([Failure('b\udcff', 'is empty'), Failure('a', 'is cut')]))
    write_failures(failures, path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [dict(path='b\udcff', reason='is empty'), dict(path='a', reason='is cut')]
    with pytest.raises(ValueError, match='2 files could not be read, see .*; the first is b'):
        failures.refuse(path)
    none = Failures([])
    write_failures(none, path)
    none.refuse(path)
    assert not path.exists()
