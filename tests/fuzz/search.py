"""A search for faults: damaged inputs of a kind, and what became of them."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.kind import FAULTS, Kind, Outcome
from fuzz.process import attempts

AT_ONCE = 200  # inputs that lie on disk at a time


@dataclass(frozen=True)
class Fault:
    """One input that showed a fault.

    Attributes:
        number: Of the case, which with the seed makes the same input again.
        damage: What was done to a healthy input.
        outcome: What became of it.
    """

    number: int
    damage: str
    outcome: Outcome


@dataclass
class Row:
    """All cases of a kind.

    Attributes:
        kind: Its name.
        healthy: What became of the inputs without damage.
        verdicts: How many damaged inputs got each.
        faults: The inputs that showed one.
        memory: Most bytes that a damaged input took beyond what a healthy one takes.
        seconds: Of the whole search.
    """

    kind: str
    healthy: list[Outcome] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    memory: int = 0
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether healthy inputs were read and no damaged one showed a fault."""
        return not self.faults and {outcome.verdict for outcome in self.healthy} == {'accepted'}


def search(
    kind: Kind,
    folder: Path,
    *,
    seed: int = 0,
    number: int | None = None,
    seconds: float = 30.0,
    show: Path | None = None,
    tell: Callable[[int], None] = lambda done: None,
) -> Row:
    """Try healthy inputs, then damaged ones.

    A case depends on `seed`, the kind's name and its number alone.

    Args:
        kind: Of the inputs.
        folder: An empty one to work in.
        seed: Of the damages.
        number: How many inputs to damage; as many as the kind says if not given.
        seconds: Patience with each input.
        show: Where inputs that show a fault are kept.
        tell: Called with the number of cases done.
    """
    start, row = time.monotonic(), Row(kind.name)
    sources = kind.seeds(_fresh(folder / 'seeds'))
    for source in sources:
        kind.attempt(source)  # what it imports is there once and for all
    row.healthy = list(attempts(kind, sources, folder, seconds=seconds))
    usual = max(outcome.memory for outcome in row.healthy)
    numbers = range(kind.count if number is None else number)
    for first in numbers[::AT_ONCE]:
        group = numbers[first : first + AT_ONCE]
        cases = [_damaged(kind, sources, folder, seed, case) for case in group]
        found = attempts(kind, [path for path, _ in cases], folder, seconds=seconds)
        for case, (path, damage), outcome in zip(group, cases, found, strict=True):
            row.verdicts[outcome.verdict] += 1
            row.memory = max(row.memory, outcome.memory - usual)
            if outcome.verdict in FAULTS:
                row.faults.append(Fault(case, damage, outcome))
                if show is not None:
                    _keep(path.parent, show / kind.name.replace(' ', '_') / str(case))
            shutil.rmtree(path.parent)
            tell(case + 1)
    row.seconds = time.monotonic() - start
    return row


def _damaged(
    kind: Kind, sources: list[Path], folder: Path, seed: int, case: int
) -> tuple[Path, str]:
    draw = random.Random(f'{seed} {kind.name} {case}')
    source = draw.choice(sources)
    target = _fresh(folder / 'cases' / str(case)) / source.name
    copy = shutil.copytree if source.is_dir() else shutil.copyfile
    copy(source, target)
    return target, kind.damage(target, draw)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _keep(source: Path, target: Path) -> None:
    """A copy, but for pipes, which cannot be copied."""
    shutil.rmtree(target, ignore_errors=True)

    def pipes(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(folder, name).is_fifo()]

    shutil.copytree(source, target, symlinks=True, ignore=pipes)
