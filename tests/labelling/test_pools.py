import os

import pytest
from toy_labeller import KILLS, Recipe, Run

from mmseg_siglip.labelling.pools import LoopPool, ProcessPool
from mmseg_siglip.labelling.process import Died, Ready, Replied, Told, Unable
from mmseg_siglip.labelling.work import Task


def until(pool, kind):
    """Events up to the first of a kind."""
    seen = []
    while not seen or not isinstance(seen[-1][1], kind):
        seen += pool.wait()
    return seen


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path, [1, 2, 3])


@pytest.mark.parametrize('kind', [LoopPool, ProcessPool])
def test_a_task_is_told_of_and_replied_to(run, kind):
    pool = kind(run.settings(Recipe()))
    pool.start()
    try:
        ((worker, ready),) = until(pool, Ready)
        assert worker == 0 and ready.hello.settings['words'] == 'bright'
        assert ready.hello.columns == dict(mean='float32')
        (shard,) = run.listing.shards()
        pool.submit(0, Task(shard))
        events = [event for _, event in until(pool, Replied)]
        assert events == [Told(1)] * 3 + [Replied(3)] and run.store.has(shard.name)
        (run.store.fs.rm(run.out, recursive=True), open(run.out, 'w').close())
        pool.submit(0, Task(shard))
        assert 'cannot be written' in until(pool, Unable)[-1][1].reason
    finally:
        pool.close()


def test_who_dies_is_started_again(tmp_path):
    run = Run(tmp_path, [KILLS, 1])
    pool = ProcessPool(run.settings(Recipe()), 2)
    pool.start()
    try:
        ready = {worker for _ in range(2) for worker, _ in until(pool, Ready)}
        pids = {number: child.process.pid for number, child in pool.children.items()}
        (shard,) = run.listing.shards()
        pool.submit(1, Task(shard))
        ((worker, event),) = [pair for pair in until(pool, Died) if isinstance(pair[1], Died)]
        assert (worker, event.reason) == (1, 'signal 9 (Killed)') and ready <= {0, 1}
        assert until(pool, Ready)[-1][0] == 1
        assert pool.children[0].process.pid == pids[0] != os.getpid()
        assert pool.children[1].process.pid != pids[1]
    finally:
        pool.close()
    assert not pool.children


def test_who_cannot_be_made_says_why(run):
    pool = ProcessPool(run.settings(Recipe(refuse='no such weights')))
    pool.start()
    try:
        assert until(pool, Unable)[0] == (0, Unable('no such weights'))
    finally:
        pool.close()
