"""Files that are there whole or not at all, whoever is killed when."""

from __future__ import annotations

import csv
import io
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_file(path: str | Path, *, draft: Path | None = None) -> Iterator[Path]:
    """A draft to write, which takes the place of `path` at the end of the block.

    The draft is flushed to disk, then renamed: a reader sees the old file or the new. If the block
    fails, the old file stays and the draft is removed.

    Args:
        path: The place; the folders above it are made.
        draft: On the same disk, and no other process's; by default a new hidden name beside `path`.
    """
    path = Path(path)
    draft = draft or path.with_name(f'.{path.name}.{secrets.token_hex(4)}.tmp')
    for file in (path, draft):
        file.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield draft
        with draft.open('rb') as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_atomically(data: bytes | memoryview | str, path: str | Path) -> None:
    """Write bytes, or text in UTF-8, as a `whole_file`."""
    with whole_file(path) as draft:
        draft.write_bytes(data.encode() if isinstance(data, str) else data)


def write_csv(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write rows below the names of their values, which are the first row's, as a `whole_file`."""
    table = io.StringIO(newline='')
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(table.getvalue(), path)
