"""The search notices what it is there for: each fault is put in once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fuzz.kind import CANARY, MIB, VERDICTS, Kind
from fuzz.report import faults, table
from fuzz.search import search


def write(folder: Path) -> list[Path]:
    (folder / 'a.txt').write_text('healthy')
    return [folder / 'a.txt']


def damage(path: Path, draw: random.Random) -> str:
    path.write_text(str(draw.random()))
    return 'a number'


def refuse(path: Path) -> None:
    raise ValueError(f'{path}: expected health, found {path.read_text()}')


def nameless(path: Path) -> None:
    raise ValueError('expected health')


def in_lines(path: Path) -> None:
    raise OSError(f'{path}:\nexpected health')


def escape(path: Path) -> None:
    raise KeyError('health')


def leave(path: Path) -> None:
    sys.exit('error: no health')


def crash(path: Path) -> None:
    os.abort()


def sleep(path: Path) -> None:
    time.sleep(60)


def eat(path: Path) -> None:
    bytearray(b'1' * 60 * MIB)


def eat_and_refuse(path: Path) -> None:
    eat(path)
    refuse(path)


def run_out(path: Path) -> None:
    try:
        bytearray(2**50)
    except MemoryError:
        raise ValueError(f'{path} is damaged') from None


def execute(path: Path) -> None:
    Path(CANARY).touch()
    refuse(path)


def start(path: Path) -> None:
    subprocess.run([sys.executable, '-c', f'open({CANARY!r}, "w")'])


def reading(on_damage, **options) -> Kind:
    def attempt(path: Path) -> None:
        if path.read_text() != 'healthy':
            on_damage(path)

    return Kind('text', 2, write, damage, attempt, memory=20 * MIB, **options)


@pytest.mark.parametrize(
    ('on_damage', 'verdict', 'error'),
    [
        (lambda path: None, 'accepted', ''),
        (refuse, 'refused', 'expected health, found 0.'),
        (nameless, 'unclear', 'ValueError: expected health'),
        (in_lines, 'unclear', 'OSError: '),
        (escape, 'escaped', "KeyError: 'health'"),
        (leave, 'escaped', 'SystemExit: error: no health'),
        (crash, 'escaped', 'SIGABRT'),
        (eat, 'hungry', 'MiB, then accepted'),
        (eat_and_refuse, 'hungry', 'MiB, then refused'),
        (run_out, 'hungry', 'is damaged'),
        (execute, 'ran code', f'made {CANARY}, then refused'),
        (start, 'ran code', f'made {CANARY}, then accepted'),
    ],
)
def test_each_fault_is_reported(tmp_path, on_damage, verdict, error):
    row = search(reading(on_damage, batch=2 if verdict == 'hungry' else 1), tmp_path, seconds=20)
    assert row.verdicts == {verdict: 2}
    assert [outcome.verdict for outcome in row.healthy] == ['accepted']
    assert row.sound == (verdict in ('accepted', 'refused')) == (not row.faults)
    assert all(error in fault.outcome.error for fault in row.faults)
    assert (row.memory > 20 * MIB) == (verdict == 'hungry' and on_damage is not run_out)
    assert f'| text | 2 | {" | ".join(str(2 * (name == verdict)) for name in VERDICTS)} |' in table(
        [row]
    )


def test_what_does_not_end(tmp_path):
    row = search(reading(sleep), tmp_path, number=1, seconds=0.5)
    assert row.verdicts == {'hung': 1} and not row.sound
    assert row.faults[0].outcome.error == 'no answer in 0.5 s'


def test_the_others_of_a_batch_are_tried_all_the_same(tmp_path):
    def crash_once(path: Path) -> None:
        crash(path) if path.parent.name == '1' else refuse(path)

    row = search(reading(crash_once, batch=10), tmp_path, number=4)
    assert row.verdicts == {'refused': 3, 'escaped': 1}
    assert [fault.number for fault in row.faults] == [1]


def test_a_healthy_input_that_is_not_read(tmp_path):
    kind = Kind('text', 2, write, damage, lambda path: None)
    row = search(kind, tmp_path)
    assert row.sound
    object.__setattr__(kind, 'attempt', Forgetful())
    row = search(kind, tmp_path)
    assert not row.sound and 'a healthy input is refused' in faults([row])


class Forgetful:
    """Reads its first input alone."""

    def __init__(self) -> None:
        self.seen = False

    def __call__(self, path: Path) -> None:
        if self.seen:
            refuse(path)
        self.seen = True


def test_a_case_is_its_number(tmp_path):
    one, two, other = (
        search(reading(escape), tmp_path, seed=seed, number=number, show=tmp_path / f'show{i}')
        for i, (seed, number) in enumerate([(1, 3), (1, 2), (2, 2)])
    )
    texts = [
        [(tmp_path / f'show{i}/text/{n}/a.txt').read_text() for n in range(2)] for i in range(3)
    ]
    assert texts[0] == texts[1] != texts[2] and len(set(texts[0])) == 2
    assert [fault.number for fault in one.faults] == [0, 1, 2]
    line = faults([two])
    assert line.startswith('- text: escaped, 2 times at fuzz/test_search.py:')
    assert "`KeyError: 'health'` (case 0: a number)" in line and line.count('\n') == 0
    assert len(other.faults) == 2


def test_what_is_kept_of_a_folder_with_a_pipe(tmp_path):
    def pipe(path: Path, draw: random.Random) -> str:
        os.mkfifo(path.with_name('pipe'))
        return 'a pipe'

    def escape(path: Path) -> None:
        if path.with_name('pipe').exists():
            raise TypeError

    kind = Kind('text', 1, write, pipe, escape)
    row = search(kind, tmp_path, number=1, show=tmp_path / 'show')
    assert row.verdicts['escaped'] == 1
    assert (tmp_path / 'show/text/0/a.txt').read_text() == 'healthy'
