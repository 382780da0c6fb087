"""Signs of life of the processes of one run: nobody waits for ever for one that was stopped."""

from __future__ import annotations

import atexit
import logging
import os
import re
import socket
import sys
import threading
from datetime import timedelta

import torch.distributed as torch_dist
from mmengine.logging import print_log

from mmseg_siglip.ending import Ending, end_now

BEAT = 1.0
"""Seconds between two signs of life."""

PATIENCE = 600.0
"""Seconds without one after which a process is given up."""

ENDED = -(2**40)
"""What a process that ends by itself adds to its count."""

GONE = re.compile('Connection (closed|reset)|Broken pipe|Socket closed|remote process exited')
LATE = re.compile('[Tt]imed out|[Tt]imeout')


class Peers:
    """Watches the other processes of a run, in two threads.

    Each process counts, once a second, in the store at which the processes met. One is silent whose
    count stands still while this process counts on, so that a pause of all is no silence. A process
    that works is never silent, however long it takes. When one was silent for the patience, this
    process says which, and ends with status 1: it would wait for it for ever.

    Args:
        rank, size: This process's number, and how many there are.
        patience: Seconds.
    """

    current: Peers | None = None

    def __init__(self, rank: int, size: int, patience: float) -> None:
        self.rank, self.size, self.patience = rank, size, patience
        self.host, self.port = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
        self.names = [f'process {rank} of {size}' for rank in range(size)]
        self.counts, self.changed = [0] * size, [0] * size
        self.ticks, self.answered = 0, 0
        self.warned: set[int] = set()
        self.over = threading.Event()
        Peers.current = self
        atexit.register(self.finish)
        self.counter = threading.Thread(target=self._count, daemon=True)
        for thread in (self.counter, threading.Thread(target=self._watch, daemon=True)):
            thread.start()

    def _count(self) -> None:
        """Count, and read the others' counts."""
        try:
            store = torch_dist.TCPStore(
                self.host,
                self.port,
                is_master=False,
                wait_for_workers=False,
                timeout=timedelta(seconds=10 * self.patience),
            )
            keys = [f'count/{rank}' for rank in range(self.size)]
            store.set(f'name/{self.rank}', f'pid {os.getpid()} on {socket.gethostname()}')
            for key in keys:
                store.add(key, 0)
            while True:
                over = self.over.wait(BEAT)
                store.add(keys[self.rank], ENDED if over else 1)
                found = [int(count) for count in store.multi_get(keys)]
                for rank, (old, new) in enumerate(zip(self.counts, found, strict=True)):
                    if new and not old:
                        who = store.get(f'name/{rank}').decode()
                        self.names[rank] = f'process {rank} of {self.size} ({who})'
                self.counts, self.answered = found, self.ticks
                if over:
                    return
        except RuntimeError:  # the store is gone with the process that kept it
            return

    def _watch(self) -> None:
        seen = list(self.counts)
        while not self.over.wait(BEAT):
            self.ticks += 1
            counts = self.counts
            for rank in range(self.size):
                if counts[rank] != seen[rank] or counts[rank] < 0:
                    self.changed[rank] = self.ticks
            seen = counts
            self._judge()

    def _judge(self) -> None:
        lost = self.silent(self.patience / BEAT)
        if lost:
            names = ' and '.join(self.names[rank] for rank in lost)
            line = f'{names} gave no sign of life for {self.patience:g} s: stopped, or gone'
            if all(rank in lost for rank in range(self.rank)):
                kept = f'; {Ending.current.kept()}' if Ending.current else ''
                print(f'error: (rank {self.rank}) {line}{kept}', file=sys.stderr, flush=True)
            end_now(1)
        late = set(self.silent(max(10, self.patience / BEAT / 10)))
        for rank in late - self.warned:
            print_log(
                f'{self.names[rank]} gives no sign of life; it is waited for up to '
                f'{self.patience:g} s.',
                logger='current',
                level=logging.ERROR,  # what every process shows
            )
        self.warned = late

    def silent(self, ticks: float) -> list[int]:
        """The processes without a sign of life for so many of this process's own.

        Without an answer of the store nothing is known but that its keeper is silent, the first
        process or what started it; nor is it missed where it had done its part.
        """
        if self.ticks - self.answered >= ticks:
            return [0] if self.counts[0] >= 0 else []
        return [
            rank
            for rank in range(self.size)
            if rank != self.rank and self.ticks - self.changed[rank] >= ticks
        ]

    def finish(self) -> None:
        """This process ends by itself, and is not missed."""
        atexit.unregister(self.finish)
        self.over.set()
        self.counter.join(4 * BEAT)
        waited = threading.Event()
        for _ in range(4 if self.rank == 0 else 0):  # with it goes the store, where the others look
            if all(count < 0 for count in self.counts[1:]):
                break
            waited.wait(BEAT / 2)


def explain(error: BaseException) -> str | None:
    """What a failed exchange between processes means; None of any other error."""
    peers, text = Peers.current, str(error).partition('] ')[2] or str(error)
    if peers is None or not isinstance(error, RuntimeError):
        return None
    if not (GONE.search(text) or LATE.search(text)):
        return None
    gone, waited = GONE.search(text), threading.Event()
    for beats in (4, *[1] * 8):  # processes of a busy machine count late
        waited.wait(beats * BEAT)
        lost = ' and '.join(peers.names[rank] for rank in peers.silent(3))
        if lost or not gone:
            break
    if gone:
        return f'{lost or "another process of this run"} has ended; its own message says why'
    who = f'{lost} gives no sign of life' if lost else 'all processes live, but one did not come'
    return f'{who}: {text}'
