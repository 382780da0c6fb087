"""Ctrl-C and SIGTERM, sent to real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import pytest

from mmseg_siglip import ending
from mmseg_siglip.cli.common import run

START = """
import multiprocessing, os, signal, sys, threading, time
from pathlib import Path
from mmseg_siglip import ending
from mmseg_siglip.cli.common import leave, run

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it

def ready(argument=None):
    os.write(1, f'ready {os.getpid()}\\n'.encode())

def wait(argument):
    ready()
    time.sleep(600)

def kept(argument):
    return f'{argument} is kept; go on with --resume'
"""
PLAIN = "leave(run(wait, 'a.pth', kept))"
LINE = 'interrupted: a.pth is kept; go on with --resume\n'


@contextmanager
def started(repository, code, *, ready=1, **variables):
    """A process that has said as often that it is ready, with the numbers that it said."""
    environment = {name: value for name, value in os.environ.items() if name != 'RANK'}
    process = subprocess.Popen(
        [sys.executable, '-c', START + code],
        env=dict(environment, PYTHONPATH=str(repository), **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        lines = [process.stdout.readline().split() for _ in range(ready)]
        assert all(lines), process.stderr.read()
        process.ready = [int(number) for _, number in lines]
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def lives(number):
    """Whether a process is there and no zombie."""
    try:
        with open(f'/proc/{number}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ('number', 'word', 'status'),
    [(signal.SIGINT, 'interrupted', 130), (signal.SIGTERM, 'terminated', 143)],
)
def test_a_signal_is_one_line_and_a_status(repository, number, word, status):
    with started(repository, PLAIN) as process:
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert errors == f'{word}: a.pth is kept; go on with --resume\n'
    assert process.returncode == status


def test_of_several_processes_the_first_speaks(repository):
    for rank, line in (('0', LINE), ('1', '')):
        with started(repository, PLAIN, RANK=rank) as process:
            process.send_signal(signal.SIGINT)
            assert (process.communicate(timeout=60)[1], process.returncode) == (line, 130)


SWALLOW = """
def swallow(argument):
    while True:
        try:
            ready()
            time.sleep(600)
        except BaseException:
            pass
"""


def test_who_does_not_hear_is_ended(repository):
    code = f"{SWALLOW}\nending.GRACE = 0.5\nleave(run(swallow, 'a.pth', kept))"
    with started(repository, code) as process:
        process.send_signal(signal.SIGINT)
        assert (process.communicate(timeout=60)[1], process.returncode) == (LINE, 130)


def test_the_second_signal_waits_no_longer(repository):
    code = f"{SWALLOW}\nending.GRACE = 600\nleave(run(swallow, 'a.pth', kept))"
    with started(repository, code) as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline().startswith('ready')
        process.send_signal(signal.SIGTERM)
        assert (process.communicate(timeout=60)[1], process.returncode) == (LINE, 130)


CHILDREN = """
def child(deaf):
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    ready()
    time.sleep(600)

def start(argument):
    context = multiprocessing.get_context('fork')
    for deaf in (False, True):
        context.Process(target=child, args=(deaf,), daemon=not deaf).start()
    wait(argument)
"""


@pytest.mark.parametrize('rank', [{}, dict(RANK='0')])
def test_no_child_is_left(repository, rank):
    """Neither one that dies of SIGTERM nor one that is deaf, nor one that would be waited for."""
    code = f"{CHILDREN}\nleave(run(start, 'a.pth', kept))"
    with started(repository, code, ready=3, **rank) as process:
        assert all(map(lives, process.ready)) and len(set(process.ready)) == 3
        process.send_signal(signal.SIGINT)
        assert (process.communicate(timeout=60)[1], process.returncode) == (LINE, 130)
        assert not any(map(lives, process.ready))


def test_the_end_of_a_child_is_not_the_end_of_all(repository):
    """A forked worker has the usual handlers, and its signals are its own."""
    code = f"{CHILDREN}\nending.GRACE = 0.2\nleave(run(start, 'a.pth', kept))"
    with started(repository, code, ready=3) as process:
        os.kill(next(number for number in process.ready if number != process.pid), signal.SIGTERM)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143


def test_an_error_that_a_signal_brought_about_is_no_traceback(repository):
    code = """
def fail(argument):
    try:
        wait(argument)
    finally:
        raise RuntimeError('a worker is gone')

leave(run(fail, 'a.pth', kept))
"""
    with started(repository, code) as process:
        process.send_signal(signal.SIGINT)
        assert (process.communicate(timeout=60)[1], process.returncode) == (LINE, 130)


def test_what_was_ignored_stays_so(repository):
    code = f'signal.signal(signal.SIGINT, signal.SIG_IGN)\n{PLAIN}'
    with started(repository, code) as process:
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143


def test_in_a_process_that_goes_on_all_is_as_before(capsys):
    def state():
        wakeup = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(wakeup)
        return [signal.getsignal(number) for number in ending.WORDS], wakeup

    def interrupt(argument):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    before = state()
    assert run(interrupt, 3, lambda argument: f'{argument} are kept') == 143
    assert capsys.readouterr().err == 'terminated: 3 are kept\n'
    assert state() == before and ending.Ending.current is None
