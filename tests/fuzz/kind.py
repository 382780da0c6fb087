"""A kind of input: healthy ones, how to damage them, and how the product reads them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20
CANARY = 'canary'
"""What code in an input makes in the folder in which it runs."""


@dataclass(frozen=True)
class Kind:
    """One row of the table.

    Attributes:
        name: Of the row.
        count: Damaged inputs that a whole search tries.
        seeds: Writes healthy inputs below a folder: files or folders.
        damage: Changes an input in place, and says how.
        attempt: Reads an input as a user makes the product read it; the product may raise
            ValueError or OSError, in one line that names the input.
        named: What the line may call the input, of its path; its name and those of its files if
            not given.
        batch: Inputs that one process reads, one after the other; 1 where an input may hold code.
        memory: Bytes that reading a damaged input may take, beyond what the process had.
    """

    name: str
    count: int
    seeds: Callable[[Path], list[Path]]
    damage: Callable[[Path, random.Random], str]
    attempt: Callable[[Path], object]
    named: tuple[str, ...] = ()
    batch: int = 1
    memory: int = 512 * MIB

    def names_of(self, path: Path) -> tuple[str, ...]:
        if self.named:
            return self.named
        files = path.rglob('*') if path.is_dir() else path.parent.glob('*')
        return path.name, *(file.name for file in files)


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt.

    Attributes:
        verdict: One of `VERDICTS`.
        error: Type and message of what was raised, or the signal.
        place: Innermost line of the product, and innermost line of all.
        memory: Bytes that the attempt took at most.
    """

    verdict: str
    error: str = ''
    place: str = ''
    memory: int = 0


VERDICTS = {
    'accepted': 'was read',
    'refused': 'ValueError or OSError, one line that names the input',
    'unclear': 'ValueError or OSError that does not name the input, or in several lines',
    'escaped': 'any other exception, or a crash',
    'hung': 'no answer in time',
    'hungry': 'more memory than allowed, or a refusal only since none was left',
    'ran code': 'something in the input was executed',
}
FAULTS = ('unclear', 'escaped', 'hung', 'hungry', 'ran code')
