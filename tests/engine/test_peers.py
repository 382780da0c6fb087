"""One of two processes is stopped, killed, late or never there: the other says so, and ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mmseg_siglip.engine import peers
from mmseg_siglip.engine.peers import Peers, explain

TORCHS = re.compile(r'(\[rank\d+\]: ?)?\[W\d{3,4} [\d:.]+ \S+\.(cpp|hpp|cu|h):\d+\]')
"""How a warning of PyTorch's own C++ begins, ``[rank0]:[W1126 10:15:02.123456789 Store.cpp:9]``."""


def lines_of(text):
    """What a process of ours said."""
    return [line for line in text.splitlines() if not TORCHS.match(line)]


def start(names, folder, repository):
    """A function from a pair's name to both statuses and to what both said, PyTorch left out."""
    script = repository / 'tests' / 'engine' / 'pairs.py'
    environment = {name: value for name, value in os.environ.items() if name != 'RANK'}
    result = subprocess.run(
        [sys.executable, str(script), str(folder), *names],
        env=dict(environment, PYTHONPATH=str(repository)),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    statuses = json.loads(result.stdout.splitlines()[-1])

    def of(name):
        said = [lines_of((folder / f'{name}.{rank}').read_text()) for rank in (0, 1)]
        return statuses[name], said

    return of


@pytest.fixture(scope='module')
def few(tmp_path_factory, repository):
    return start(['stop_second', 'kill_second'], tmp_path_factory.mktemp('few'), repository)


@pytest.fixture(scope='module')
def pairs(tmp_path_factory, repository):
    names = ['stop_first', 'kill_first', 'interrupt', 'pause', 'work', 'part']
    names += ['part_the_other_way', 'fail', 'be_late', 'be_alone']
    return start(names, tmp_path_factory.mktemp('pairs'), repository)


def test_warnings_of_pytorch_alone_are_left_out():
    theirs = (
        '[W1126 10:15:02.123456789 socket.cpp:752] [c10d] The client socket has failed to connect',
        '[rank1]:[W1126 10:15:02.123456789 ProcessGroupGloo.cpp:68] Warning: unable to resolve',
        '[rank0]: [W1126 10:15:02.1 TCPStore.cpp:115] [c10d] recvVector failed on SocketImpl',
    )
    ours = (
        '[E1126 10:15:02.1 socket.cpp:1] failed',
        'error: (rank 1) x.png',
        '[W] is',
        'Traceback',
    )
    assert lines_of('\n'.join([*theirs, *ours])) == [*ours]


def check_stopped(statuses, said, lost, left):
    """One that was stopped is waited for no longer than the patience."""
    assert (statuses[left], statuses[lost]) == (1, None)
    errors = [line for line in said[left] if line.startswith('error')]
    assert len(errors) == 1
    assert re.fullmatch(
        rf'error: \(rank {left}\) process {lost} of 2( \(pid \d+ on \S+\))? gave no sign of life '
        r'for 8 s: stopped, or gone; a\.pth is kept',
        errors[0],
    )


def check_killed(statuses, said, lost, left):
    """One that was killed is a sentence."""
    assert (statuses[left], statuses[lost]) == (1, -9)
    assert re.fullmatch(
        rf'error: \(rank {left}\) process {lost} of 2 .*has ended; its own message says why',
        said[left][-1],
    )
    assert not any('Traceback' in line for line in said[left])


def test_a_second_one_stopped_or_killed(few):
    check_stopped(*few('stop_second'), lost=1, left=0)
    check_killed(*few('kill_second'), lost=1, left=0)


@pytest.mark.slow
def test_a_first_one_stopped_or_killed(pairs):
    """With it goes the store in which they count."""
    check_stopped(*pairs('stop_first'), lost=0, left=1)
    check_killed(*pairs('kill_first'), lost=0, left=1)


@pytest.mark.slow
def test_ctrl_c_reaches_both_and_one_speaks(pairs):
    assert pairs('interrupt') == ([130, 130], [['interrupted: a.pth is kept'], []])


@pytest.mark.slow
@pytest.mark.parametrize('name', ['work', 'part', 'part_the_other_way', 'pause'])
def test_nobody_who_works_has_finished_or_was_paused_with_all_is_missed(pairs, name):
    statuses, said = pairs(name)
    assert statuses == [0, 0]
    assert not any('sign of life' in line for line in said[0] + said[1])


@pytest.mark.slow
def test_an_error_of_one_is_the_end_of_both(pairs):
    statuses, (first, second) = pairs('fail')
    assert statuses == [1, 1]
    assert second[-1] == 'error: (rank 1) x.png is empty'
    assert re.fullmatch(r'error: \(rank 0\) .*has ended; its own message says why', first[-1])


@pytest.mark.slow
def test_one_that_lives_and_does_not_come(pairs):
    statuses, (first, _) = pairs('be_late')
    assert statuses[0] == 1
    assert 'all processes live, but one did not come: ' in first[-1] and 'imed out' in first[-1]


@pytest.mark.slow
def test_one_that_never_came(pairs):
    statuses, (first, _) = pairs('be_alone')
    assert statuses == [1, 0]
    assert re.match(
        r'error: \(rank 0\) expected 2 processes to meet at 127\.0\.0\.1:\d+ within 8 s: .*1/2',
        first[-1],
    )


@pytest.fixture
def watched(monkeypatch):
    """Peers without threads or store, the first of three."""
    monkeypatch.setattr(peers.threading, 'Thread', lambda **_: SimpleNamespace(start=int))
    monkeypatch.setenv('MASTER_ADDR', 'localhost')
    monkeypatch.setenv('MASTER_PORT', '1')
    monkeypatch.setattr(peers.atexit, 'register', lambda function: None)
    monkeypatch.setattr(Peers, 'current', None)
    return Peers(0, 3, 600)


def test_who_is_silent(watched):
    watched.ticks, watched.answered, watched.changed = 100, 100, [0, 90, 95]
    assert watched.silent(10) == [1] and watched.silent(5) == [1, 2] and watched.silent(11) == []
    watched.answered = 50
    assert watched.silent(50) == [0] and watched.silent(51) == []


def test_a_late_one_is_named_once_before_it_is_given_up(watched, monkeypatch):
    lines, ends = [], []
    monkeypatch.setattr(peers, 'print_log', lambda line, **_: lines.append(line))
    monkeypatch.setattr(peers, 'end_now', ends.append)
    for tick in range(1, 603):
        watched.ticks = watched.answered = tick
        watched.changed = [0, tick if tick < 5 or 100 < tick < 200 else watched.changed[1], tick]
        watched._judge()
    assert (
        lines
        == [
            'process 1 of 3 gives no sign of life; it is waited for up to 600 s.',
        ]
        * 2
    )
    assert ends == []


def test_other_errors_are_not_explained(watched):
    assert explain(RuntimeError('shape mismatch')) is None
    assert explain(ValueError('Connection reset by peer')) is None
    Peers.current = None
    assert explain(RuntimeError('Connection reset by peer')) is None
