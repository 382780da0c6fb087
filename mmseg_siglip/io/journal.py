"""Lines of JSON that are appended one by one; a line that a kill cut short was never there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import IO, Any


class Journal:
    """Appends records to a file that no other process appends to.

    Args:
        path: The file; made when the first record comes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def append(self, record: Mapping[str, Any]) -> None:
        if self._file is None:
            self.path.parent.mkdir(exist_ok=True)
            self._file = self.path.open('ab')
        self._file.write(json.dumps(record).encode() + b'\n')
        self._file.flush()


def drop_cut_line(path: Path) -> None:
    """Cut a file after its last line break, so that what is appended starts a line."""
    with path.open('rb+') as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(end - 2**16, 0)
            file.seek(start)
            at = file.read(end - start).rfind(b'\n')
            if at >= 0:
                break
            end = start
        file.truncate(start + at + 1 if end else 0)


def read_lines(path: Path, keys: Set[str]) -> Iterator[tuple[int, dict]]:
    """Each whole record of a journal that has these keys, with the byte where it begins."""
    offset = 0
    with path.open('rb') as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if isinstance(record, dict) and record.keys() == keys:
                yield offset, record
            offset += len(line)
