import os
import signal
import time
from functools import partial

import pytest

from mmseg_siglip.io.failures import OutputError
from mmseg_siglip.labelling.process import (
    Child,
    Died,
    Ready,
    Replied,
    Told,
    Unable,
    how_ended,
    reason_of,
)


def handle(request, told):
    if request == 'die':
        os.kill(os.getpid(), signal.SIGKILL)
    if request == 'leave':
        os._exit(3)
    if request == 'full':
        raise OutputError('out: cannot be written')
    if request == 'bug':
        raise RuntimeError('shapes\ndiffer')
    told(2)
    return request * 2


def build(refuse=None):
    if refuse:
        raise refuse
    return os.getpid(), handle


@pytest.fixture
def child():
    child = Child(build)
    yield child
    child.close()


def test_requests_are_answered(child):
    ready = child.next()
    assert isinstance(ready, Ready) and ready.hello == child.process.pid != os.getpid()
    child.ask(21)
    assert [child.next(), child.next()] == [Told(2), Replied(42)]
    child.ask('full')
    assert child.next() == Unable('out: cannot be written')
    child.ask(1)
    assert child.next() == Told(2)


@pytest.mark.parametrize(
    ('request_', 'reason'),
    [('die', 'signal 9 (Killed)'), ('leave', 'exit status 3'), ('bug', 'shapes differ')],
)
def test_a_death_is_seen(child, request_, reason):
    child.next()
    child.ask(request_)
    assert child.next() == Died(reason)


def test_it_leaves_ctrl_c_to_its_parent(child):
    child.next()
    os.kill(child.process.pid, signal.SIGINT)
    time.sleep(0.2)
    child.ask(1)
    assert child.next() == Told(2)


@pytest.mark.parametrize('error', [ValueError('no weights'), KeyError('x is not registered')])
def test_what_cannot_be_built(error):
    child = Child(partial(build, error))
    assert child.next() == Unable(error.args[0])
    assert child.next() == Died('exit status 0')
    child.close()


def test_words_for_ends():
    assert how_ended(-15) == 'signal 15 (Terminated)' and how_ended(1) == 'exit status 1'
    assert reason_of(KeyError('a')) == 'a' and reason_of(RuntimeError()) == 'RuntimeError'
