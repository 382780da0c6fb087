"""What could not be read, labelled or written, and why."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mmseg_siglip.io.files import whole_file

FAILURES = 'failures.jsonl'


@dataclass(frozen=True)
class Failure:
    """What could not be used, and why."""

    path: str
    reason: str

    @classmethod
    def of(cls, path: str | Path, error: Exception) -> Failure:
        """`error` as a reason: without the path, on one line."""
        text = str(error) if isinstance(error, ValueError) else getattr(error, 'strerror', None)
        text = text or f'{type(error).__name__}: {error}'.rstrip(': ')
        text = ' '.join(text.split()).removeprefix(f'{path} ').removeprefix(f'{path}: ')
        return cls(str(path), text)

    def __str__(self) -> str:
        return f'{self.path}: {self.reason}'


class OutputError(ValueError):
    """The output cannot be written, or not be reached, whatever is to be."""


class Failures:
    """Failures that pass by, of which the number and the first are kept.

    Args:
        failures: Any number of them.
    """

    def __init__(self, failures: Iterable[Failure]) -> None:
        self._failures, self.count, self.first = failures, 0, None

    def __iter__(self) -> Iterator[Failure]:
        for failure in self._failures:
            self.count += 1
            self.first = self.first or failure
            yield failure

    def refuse(self, place: str | Path) -> None:
        """Raises: ValueError: There were some, which are listed at `place`."""
        if self.count:
            raise ValueError(
                f'{self.count} files could not be read, see {place}; the first is {self.first}'
            )


def write_failures(failures: Iterable[Failure], path: Path) -> None:
    """A JSON line for each, or no file."""
    lines = (f'{json.dumps(vars(failure))}\n' for failure in failures)
    first = next(lines, None)
    if first is None:
        path.unlink(missing_ok=True)
        return
    with whole_file(path) as draft, draft.open('w') as file:
        file.write(first)
        file.writelines(lines)
