"""Rows of a table that stay when the job is interrupted, each under what it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mmseg_siglip.cli.jobs.stopwatch import machine
from mmseg_siglip.configs import PACKAGE
from mmseg_siglip.io.files import whole_file
from mmseg_siglip.io.manifest import digest_of

Row = dict[str, Any]
CODE = ('.py', '.txt')
PART = 2**24  # bytes read at a time


class FinishedRows:
    """A folder of rows, a file each.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, settings: Mapping[str, Any]) -> Path:
        """The file of a row: by its settings, the contents of what its ``model`` and ``weights``
        name, the code of this package and the kind of machine."""
        places = files_in([settings['model'], settings['weights']])
        named = {name: contents(path) for name, path in sorted(places)}
        depends = dict(settings=settings, files=named, code=contents(PACKAGE, CODE))
        return self.folder / f'{digest_of(dict(depends, machine=machine()))}.npz'

    def load(self, path: Path) -> tuple[Row, np.ndarray] | None:
        """A row and its counts (N, 2, C), if they are there."""
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as stored:
            return json.loads(str(stored['row'])), stored['counts']

    def save(self, path: Path, row: Row, counts: np.ndarray) -> None:
        with whole_file(path) as draft, draft.open('wb') as file:
            np.savez_compressed(file, row=json.dumps(row), counts=counts)


def files_in(settings: object) -> Iterator[tuple[str, Path]]:
    """Every string among settings that names a file or a folder, and the place."""
    if isinstance(settings, Mapping):
        for value in settings.values():
            yield from files_in(value)
    elif isinstance(settings, (list, tuple)):
        for value in settings:
            yield from files_in(value)
    elif isinstance(settings, str) and settings:
        path = Path(settings).expanduser()
        try:
            there = path.exists()
        except OSError:  # a sentence, longer than a name may be
            return
        if there:
            yield settings, path


def contents(path: Path, suffixes: Sequence[str] = ()) -> str:
    """A digest of a file, or of all files of a folder, or of those that end so."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob('*') if p.is_file())
    files = [file for file in files if not suffixes or file.suffix in suffixes]
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        part = _file_digest(file.resolve(), status.st_size, status.st_mtime_ns)
        digest.update(f'{file.relative_to(path)} {part}\n'.encode())
    return digest.hexdigest()


@cache
def _file_digest(path: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while part := file.read(PART):
            digest.update(part)
    return digest.hexdigest()
