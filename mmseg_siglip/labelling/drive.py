"""The loop that hands shards to workers and counts their deaths."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from mmseg_siglip.io.failures import OutputError
from mmseg_siglip.labelling.listing import Listing
from mmseg_siglip.labelling.objects import ShardStore
from mmseg_siglip.labelling.pools import Pool
from mmseg_siglip.labelling.process import Died, Event, Ready, Replied, Told, Unable
from mmseg_siglip.labelling.shards import Shard
from mmseg_siglip.labelling.work import Task, commit_failure

TRIES = 3  # workers that a shard may end before its images are labelled one by one
STARTS = 20  # workers in a row that end before they have a task
AT_A_TIME = 1000  # missing shards that a process chooses from


@dataclass
class Total:
    """What a run has done.

    Attributes:
        shards: That were labelled.
        labelled: Images in them that were.
        there: Shards that were there already.
    """

    shards: int = 0
    labelled: int = 0
    there: int = 0


class ShardTurns:
    """The tasks of one process of a run, one after another.

    First its share of the shards, then whatever is missing, in an order of its own: so a process
    that ends early helps, and what another has lost is done.

    Args:
        listing: All shards.
        store: Where their tables are.
        rank: Number of this process.
        size: How many there are.
        retry: Whether shards with failures are labelled again.
    """

    def __init__(
        self,
        listing: Listing,
        store: ShardStore,
        *,
        rank: int = 0,
        size: int = 1,
        retry: bool = False,
    ) -> None:
        self.listing, self.store = listing, store
        self.rank, self.size, self.retry = rank, size, retry
        self.there = 0

    def __iter__(self) -> Iterator[Task | None]:
        """Tasks; None where what is missing may be under way."""
        done = self.store.done()
        for index, shard in enumerate(self.listing.shards()):
            if index % self.size != self.rank:
                continue
            if shard.name not in done:
                if self.size > 1 and self.store.has(shard.name):  # another has helped
                    self.there += 1
                else:
                    yield Task(shard)
            elif self.retry and self.store.failed(shard.name):
                yield Task(shard, again=True)
            else:
                self.there += 1
        while missing := self._missing():
            missing.reverse()  # towards whoever is at work on these
            start = self.rank * len(missing) // self.size
            for shard in missing[start:] + missing[:start]:
                if not self.store.has(shard.name):
                    yield Task(shard)
            yield None

    def _missing(self) -> list[Shard]:
        done = self.store.done()
        found = (shard for shard in self.listing.shards() if shard.name not in done)
        return list(islice(found, AT_A_TIME))


class Drive:
    """Hands tasks to the workers of a pool until none is left.

    A worker says that it is ready before it gets a task, so that one that ends while it starts is
    no shard's fault. A shard that has ended a worker is tried again after all others; after `TRIES`
    its images are labelled one by one, each in a process that may end; if that fails, too, the
    shard's object says why.

    Args:
        turns: The tasks.
        pool: The workers.
        store: Where tables go.
        claim: Called with the settings of the first worker; a ValueError of it ends the run.
        told: Called with how many images more are done.
    """

    def __init__(
        self,
        turns: ShardTurns,
        pool: Pool,
        store: ShardStore,
        *,
        claim: Callable[[Any], None] = lambda settings: None,
        told: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.pool, self.store, self.claim, self.told = pool, store, claim, told
        self.turns, self.tasks = turns, iter(turns)
        self.again: deque[Task] = deque()
        self.deaths: Counter[str] = Counter()
        self.busy: dict[int, Task] = {}
        self.idle: set[int] = set()
        self.starts, self.ends, self.settings, self.total = 0, 0, None, Total()
        self.columns: dict[str, str] = {}

    def run(self) -> Total:
        """Do all.

        Raises:
            OutputError: The output cannot be written.
            ValueError: No worker can be made.
        """
        try:
            self.pool.start()
            self._wait()
            while self._hand_out() or self.busy:
                self._wait()
        finally:
            self.pool.close()
        self.total.there = self.turns.there
        return self.total

    def _hand_out(self) -> bool:
        """Give the idle workers tasks; whether one is left that no worker is there for."""
        while self.idle:
            task = self._next()
            if task is None:
                return False
            worker = min(self.idle)
            self.idle.remove(worker)
            self.busy[worker] = task
            self.pool.submit(worker, task)
        return True

    def _next(self) -> Task | None:
        under_way = {task.shard.name for task in self.busy.values()}
        for task in self.tasks:
            if task is None:
                if self.busy or self.again:
                    break
            elif task.shard.name not in under_way and task.shard.name not in self.deaths:
                return task
        return self.again.popleft() if self.again else None

    def _wait(self) -> None:
        """Until something has happened that makes a worker free, or not."""
        news = False
        while not news:
            for worker, event in self.pool.wait():
                self._take(worker, event)
                news |= not isinstance(event, Told)

    def _take(self, worker: int, event: Event) -> None:
        match event:
            case Ready(hello):
                self.columns = hello.columns
                self._compare(hello.settings)
                self.starts = 0
                self.idle.add(worker)
            case Told(count):
                self.told(count)
            case Replied(labelled):
                task = self.busy.pop(worker)
                self.deaths.pop(task.shard.name, None)
                self.idle.add(worker)
                self.total.shards += 1
                self.total.labelled += labelled
            case Unable(reason):
                raise (OutputError if worker in self.busy else ValueError)(reason)
            case Died(reason):
                self.idle.discard(worker)
                self._bury(self.busy.pop(worker, None), reason)

    def _compare(self, settings: Any) -> None:
        if self.settings is None:
            self.settings = settings
            self.claim(settings)
        elif settings != self.settings:
            names = [name for name in settings if settings[name] != self.settings.get(name)]
            raise ValueError(f'workers differ in {", ".join(names)}: expected the same for all')

    def _bury(self, task: Task | None, reason: str) -> None:
        if task is None:
            self.starts += 1
            if self.starts == STARTS:
                raise ValueError(f'{STARTS} workers in a row ended before a task: {reason}')
            return
        self.ends += 1
        if self.ends == STARTS and not self.total.labelled:
            raise ValueError(f'{STARTS} workers ended before they had labelled an image: {reason}')
        name = task.shard.name
        if task.alone:
            count = f'ended {self.deaths[name] + 1} workers'
            commit_failure(self.store, task.shard, f'{count}, the last by {reason}', self.columns)
            return
        self.deaths[name] += 1
        self.again.append(replace(task, alone=self.deaths[name] >= TRIES))
