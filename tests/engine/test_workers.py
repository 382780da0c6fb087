"""Real processes: whoever starts workers is killed, and they are looked for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
from torch.utils.data import DataLoader

from mmseg_siglip.engine import Runner, workers
from mmseg_siglip.engine.workers import end_with, guarded

FORK = multiprocessing.get_context('fork')
SECONDS = 60  # on a busy machine


class Large:
    """Arrays that fill a pipe, so that workers wait for somebody to read."""

    def __len__(self):
        return 100

    def __getitem__(self, index):
        return np.full(10_000_000, index, np.uint8)


def runs(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def wait_for(condition):
    end = time.monotonic() + SECONDS
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def read_a_little(pipe, guard):
    """What the process does that will be killed."""
    loader = DataLoader(Large(), 2, num_workers=2, collate_fn=list, multiprocessing_context='fork')
    batches = iter(guarded(loader) if guard else loader)
    next(batches)
    pipe.send([worker.pid for worker in batches._workers])
    time.sleep(SECONDS)


def killed(target, *args, by):
    """Start a process, wait for it to tell of its workers, and kill it; returns the workers."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=target, args=(theirs, *args))
    process.start()
    pids = ours.recv()
    time.sleep(0.5)
    assert all(map(runs, pids))
    os.kill(process.pid, by)
    process.join()
    return pids


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_process(number):
    pids = killed(read_a_little, True, by=number)
    assert wait_for(lambda: not any(map(runs, pids)))


def train_a_little(pipe):
    loader = Runner.build_dataloader(
        dict(
            dataset=Large(),
            batch_size=2,
            num_workers=2,
            persistent_workers=True,
            collate_fn=dict(type='pseudo_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        seed=3,
    )
    batches = iter(loader)
    next(batches)
    pipe.send([worker.pid for worker in batches._workers])
    time.sleep(SECONDS)


def test_workers_of_a_runner_end_with_it():
    pids = killed(train_a_little, by=signal.SIGKILL)
    assert wait_for(lambda: not any(map(runs, pids)))


class Drawn(Large):
    def __getitem__(self, index):
        return float(np.random.random())


def test_a_loaders_own_start_of_workers_is_kept():
    options = dict(
        dataset=Drawn(), batch_size=4, sampler=dict(type='DefaultSampler', shuffle=False)
    )
    found = [
        [list(batch) for batch in Runner.build_dataloader(dict(options, num_workers=1), seed=seed)]
        for seed in (3, 3, 4)
    ]
    assert found[0] == found[1] != found[2]
    assert Runner.build_dataloader(dict(options, num_workers=0)).worker_init_fn is None


def wait_below(pipe):
    """A process between: it starts the last one, and ends."""
    child = FORK.Process(target=watched, args=(pipe, os.getpid()))
    child.start()
    time.sleep(SECONDS)


def watched(pipe, parent):
    workers.INTERVAL = 0.05
    end_with(parent)
    pipe.send([os.getpid()])
    time.sleep(SECONDS)


def test_any_process_can_end_with_its_parent():
    (pid,) = killed(wait_below, by=signal.SIGKILL)
    assert wait_for(lambda: not runs(pid))
