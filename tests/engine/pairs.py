"""Pairs of processes over gloo, some of them stopped or killed: ``python pairs.py FOLDER PAIR...``.

All pairs run at once, each process forked before anything has started a thread. FOLDER gets, for
each pair and each of its processes, what it said on stderr; the exit statuses are printed as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from mmseg_siglip.cli.common import leave, run
from mmseg_siglip.engine.processes import start_gloo

PATIENCE = 8.0
LONG = timedelta(hours=1)


def meet(ready: Path, *, timeout: timedelta = LONG) -> None:
    start_gloo('pytorch', timeout, PATIENCE)
    dist.all_reduce(torch.ones(1))
    ready.touch()


def exchange(rank: int, ready: Path) -> None:
    """Until the end of days."""
    meet(ready)
    go_on()


def go_on() -> None:
    while True:
        dist.all_reduce(torch.ones(1))
        time.sleep(0.05)


def work(rank: int, ready: Path) -> None:
    """One waits for the other, which works for longer than the patience."""
    meet(ready)
    time.sleep(1.6 * PATIENCE * rank)
    dist.all_reduce(torch.ones(1))


def part(rank: int, ready: Path) -> None:
    """The first is done at once, the second works on for longer than the patience."""
    meet(ready)
    time.sleep(1.6 * PATIENCE * rank)


def part_the_other_way(rank: int, ready: Path) -> None:
    part(1 - rank, ready)


def fail(rank: int, ready: Path) -> None:
    """The second refuses its input."""
    meet(ready)
    if rank == 1:
        raise ValueError('x.png is empty')
    go_on()


def be_late(rank: int, ready: Path) -> None:
    """The second lives, and does not come."""
    meet(ready, timeout=timedelta(seconds=3))
    time.sleep(600 * rank)
    dist.all_reduce(torch.ones(1))


def be_alone(rank: int, ready: Path) -> None:
    """The second never comes."""
    ready.touch()
    if rank == 0:
        meet(ready)


PAIRS = dict(
    stop_second=(exchange, [(signal.SIGSTOP, 1)]),
    stop_first=(exchange, [(signal.SIGSTOP, 0)]),
    kill_second=(exchange, [(signal.SIGKILL, 1)]),
    kill_first=(exchange, [(signal.SIGKILL, 0)]),
    interrupt=(exchange, [(signal.SIGINT, 0), (signal.SIGINT, 1)]),
    pause=(work, [(signal.SIGSTOP, 0), (signal.SIGSTOP, 1)]),
    work=(work, []),
    part=(part, []),
    part_the_other_way=(part_the_other_way, []),
    fail=(fail, []),
    be_late=(be_late, []),
    be_alone=(be_alone, []),
)


def pair(name: str, folder: Path) -> list[int]:
    """Start both, send the signals when they have met; the exit statuses."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    body, signals = PAIRS[name]
    children = []
    for rank in (0, 1):
        child = os.fork()
        if child == 0:
            os.environ.update(RANK=str(rank), WORLD_SIZE='2', LOCAL_RANK=str(rank))
            os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
            output = os.open(folder / f'{name}.{rank}', os.O_CREAT | os.O_WRONLY)
            os.dup2(output, 2)
            ready = folder / f'{name}.{rank}.ready'
            leave(run(partial(body, rank), ready, lambda _: 'a.pth is kept'))
        children.append(child)
    while not all((folder / f'{name}.{rank}.ready').exists() for rank in (0, 1)):
        time.sleep(0.1)
    time.sleep(2)  # all have counted
    for number, rank in signals:
        os.kill(children[rank], number)
    if name == 'pause':
        time.sleep(1.6 * PATIENCE)
        for child in children:
            os.kill(child, signal.SIGCONT)
    stopped = [children[rank] for number, rank in signals if number == signal.SIGSTOP]
    statuses = {}
    deadline = time.monotonic() + 10 * PATIENCE
    while len(statuses) < 2 and time.monotonic() < deadline:
        for child in {*children} - {*statuses}:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                statuses[child] = os.waitstatus_to_exitcode(status)
        if {*children} - {*statuses} <= {*stopped} and name.startswith('stop'):
            break
        time.sleep(0.05)
    for child in {*children} - {*statuses}:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return [statuses.get(child) for child in children]


def main(folder: str, *names: str) -> None:
    gc.freeze()
    places = {}
    for name in names:
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, json.dumps(pair(name, Path(folder))).encode())
            os._exit(0)
        os.close(write)
        places[name] = read
    print(json.dumps({name: json.loads(os.read(read, 99)) for name, read in places.items()}))


if __name__ == '__main__':
    main(*sys.argv[1:])
