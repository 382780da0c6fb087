"""What a worker does to a shard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import chain
from typing import IO, Any

from mmseg_siglip.io.failures import Failure, OutputError
from mmseg_siglip.io.manifest import digest_of
from mmseg_siglip.labelling.labeller import Recipe, Row, ShardLabeller
from mmseg_siglip.labelling.objects import ShardStore
from mmseg_siglip.labelling.one_by_one import label_alone
from mmseg_siglip.labelling.rows import failure_row, label_members, schema_of, write_table
from mmseg_siglip.labelling.shards import Shard


@dataclass(frozen=True)
class Task:
    """A shard to label.

    Attributes:
        shard: The shard.
        again: Label what failed before, and keep the rest.
        alone: Label each image in a process of its own: the shard has ended several.
    """

    shard: Shard
    again: bool = False
    alone: bool = False


@dataclass(frozen=True)
class Hello:
    """What a worker says of itself: see `ShardLabeller`."""

    settings: dict[str, Any]
    columns: dict[str, str]


@dataclass(frozen=True)
class Worker:
    """A labeller, where its rows go, and how.

    Attributes:
        labeller: What labels.
        store: Where tables go.
        recipe: Makes the labeller again, for an image that may end its process.
        batch_size: Images at a time.
        threads: That read, decode and encode.
        place: Number of the worker, and of how many on its machine.
    """

    labeller: ShardLabeller
    store: ShardStore
    recipe: Recipe
    batch_size: int
    threads: int
    place: tuple[int, int] = (0, 1)

    @classmethod
    def build(cls, settings: WorkerSettings, number: int = 0, count: int = 1) -> Worker:
        """Worker `number` of `count` on this machine.

        Raises:
            ValueError, OSError: There can be none.
        """
        labeller = settings.recipe(number, count)
        store = ShardStore(settings.store)
        how = (settings.batch_size, settings.threads, (number, count))
        return cls(labeller, store, settings.recipe, *how)

    @property
    def hello(self) -> Hello:
        return Hello(dict(self.labeller.settings), dict(self.labeller.columns))

    def work(self, task: Task, told: Callable[[int], None] = lambda count: None) -> int:
        """Label a shard and commit its table; how many images of it were labelled.

        A table with failures, or of no image, leaves one that is there and labels as much, unless
        that is to be labelled again: another worker may reach what this one does not.

        Raises:
            OutputError: It cannot be written, or not be reached.
        """
        kept = list(self._kept(task)) if task.again else []
        done = {row['name'] for row in kept if row['name'] is not None}
        tally = Tally()
        rows = tally.counting(self._rows(task, done, told))

        def table(file: IO[bytes]) -> None:
            about = dict(shard=task.shard.name, settings=digest_of(self.labeller.settings))
            about['mmseg_siglip'] = version('mmseg_siglip')
            write_table(chain(kept, rows), schema_of(self.labeller.columns, about), file)

        def replaces() -> bool:
            whole = tally.rows and not tally.failed
            return task.again or whole or self._betters(task.shard.name, tally.rows)

        self.store.put(task.shard.name, table, replaces=replaces)
        return len(tally.images)

    def _betters(self, name: str, rows: int) -> bool:
        """Whether a table is there that labels fewer rows, or is not whole."""
        try:
            return self.store.has(name) and rows > self.store.count(name)[0]
        except OutputError:
            raise
        except ValueError:
            return True

    def _kept(self, task: Task) -> Iterator[Row]:
        return (row for row in self.store.rows(task.shard.name) if row['failure'] is None)

    def _rows(self, task: Task, done: set[str], told: Callable[[int], None]) -> Iterator[Row]:
        members = self._members(task.shard, done)
        if task.alone:
            return label_alone(members, self.recipe, place=self.place, told=told)
        return label_members(
            members,
            self.labeller,
            batch_size=self.batch_size,
            threads=self.threads,
            told=told,
        )

    @staticmethod
    def _members(shard: Shard, done: set[str]) -> Iterator:
        """Of a shard that cannot be read, or not to its end, a failure comes last."""
        try:
            for member in shard.members():
                if isinstance(member, Failure) or member.name not in done:
                    yield member
        except OutputError:
            raise
        except ValueError as error:
            yield Failure.of(shard.place, error)


@dataclass
class Tally:
    """What has become of the images of a shard.

    Attributes:
        images: Names of those that are labelled.
        rows: Rows of these.
        failed: Rows that say why there is no label.
    """

    images: set[str] = field(default_factory=set)
    rows: int = 0
    failed: int = 0

    def counting(self, rows: Iterable[Row]) -> Iterator[Row]:
        try:
            for row in rows:
                if row.get('failure') is None:
                    self.images.add(row['name'])
                    self.rows += 1
                else:
                    self.failed += 1
                yield row
        except OSError as error:  # of the work, not of the table that is written
            raise RuntimeError(f'{type(error).__name__}: {error}') from error


@dataclass(frozen=True)
class WorkerSettings:
    """Of which workers are made, in whatever process.

    Attributes:
        recipe: Makes a labeller.
        store: Address of the output.
        batch_size: Images at a time.
        threads: That read, decode and encode, for each worker.
    """

    recipe: Recipe
    store: str
    batch_size: int = 8
    threads: int = 2


def commit_failure(
    store: ShardStore, shard: Shard, reason: str, columns: Mapping[str, str]
) -> bool:
    """The object of a shard of which nothing could be made; one that is there is left."""
    if store.has(shard.name):
        return False
    rows = [failure_row(Failure(shard.place, reason))]
    schema = schema_of(columns, dict(shard=shard.name))
    return store.put(shard.name, partial(write_table, rows, schema), replaces=lambda: False)
