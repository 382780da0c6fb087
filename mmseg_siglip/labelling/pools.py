"""Workers: in this process, or in processes of their own on this machine."""

from __future__ import annotations

import multiprocessing.connection
from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

from mmseg_siglip.io.failures import OutputError
from mmseg_siglip.labelling.process import (
    Child,
    Died,
    Event,
    Handler,
    Ready,
    Replied,
    Told,
    Unable,
)
from mmseg_siglip.labelling.work import Task, Worker, WorkerSettings


class Pool(Protocol):
    """Workers by numbers, each of which does a task at a time.

    A worker that is gone is started anew, after `Died`. `Ready` says that one can be given a task.
    """

    def start(self) -> None: ...

    def submit(self, worker: int, task: Task) -> None: ...

    def wait(self) -> list[tuple[int, Event]]:
        """What happens next, to which worker."""

    def close(self) -> None:
        """End all workers, whatever they do."""


class LoopPool:
    """One worker in this process: nothing to start, and nothing that survives a crash.

    Args:
        settings: See `WorkerSettings`.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings, self.events = settings, []

    def start(self) -> None:
        self.worker = Worker.build(self.settings)
        self.events = [Ready(self.worker.hello)]

    def submit(self, worker: int, task: Task) -> None:
        def told(count: int) -> None:
            self.events.append(Told(count))

        try:
            self.events.append(Replied(self.worker.work(task, told)))
        except OutputError as error:
            self.events.append(Unable(str(error)))

    def wait(self) -> list[tuple[int, Event]]:
        events, self.events = self.events, []
        return [(0, event) for event in events]

    def close(self) -> None:
        pass


class ProcessPool:
    """Workers in processes of this machine.

    Args:
        settings: See `WorkerSettings`.
        count: How many.
    """

    def __init__(self, settings: WorkerSettings, count: int = 1) -> None:
        self.settings, self.count = settings, count
        self.children: dict[int, Child] = {}

    def start(self) -> None:
        for number in range(self.count):
            self._start(number)

    def _start(self, number: int) -> None:
        self.children[number] = Child(partial(build_worker, self.settings, number, self.count))

    def submit(self, worker: int, task: Task) -> None:
        self.children[worker].ask(task)

    def wait(self) -> list[tuple[int, Event]]:
        ends = {child.connection: number for number, child in self.children.items()}
        return [*self._events(multiprocessing.connection.wait(list(ends)), ends)]

    def _events(self, ready: list, ends: dict[Any, int]) -> Iterator[tuple[int, Event]]:
        for end in ready:
            number = ends[end]
            event = self.children[number].next()
            if isinstance(event, Died):
                self.children.pop(number).close()
                self._start(number)
            yield number, event

    def close(self) -> None:
        for child in self.children.values():
            child.close()
        self.children.clear()


def build_worker(settings: WorkerSettings, number: int, count: int) -> tuple[Any, Handler]:
    worker = Worker.build(settings, number, count)
    return worker.hello, worker.work
