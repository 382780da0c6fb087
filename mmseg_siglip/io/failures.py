"""What could not be read, labelled or written, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmseg_siglip.io.files import write_atomically

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
    """The output cannot be written, whatever is to be."""


def write_failures(failures: Sequence[Failure], path: Path) -> None:
    """A JSON line for each, or no file."""
    if not failures:
        path.unlink(missing_ok=True)
        return
    lines = (json.dumps(vars(failure)) for failure in sorted(failures, key=lambda f: f.path))
    write_atomically(''.join(f'{line}\n' for line in lines), path)


def refuse_failures(failures: Sequence[Failure], path: Path) -> None:
    """Raises: ValueError: There are some, which `path` lists."""
    if failures:
        raise ValueError(
            f'{len(failures)} files could not be read, see {path}; the first is {failures[0]}'
        )
