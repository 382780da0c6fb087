"""Reading files that end: no pipe that waits for ever, no device without an end, nothing vast."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

MAX_BYTES = 2**30  # of one image: 100 million pixels of 10 bytes

_NODES = {
    stat.S_IFIFO: 'a named pipe',
    stat.S_IFSOCK: 'a socket',
    stat.S_IFCHR: 'a device',
    stat.S_IFBLK: 'a device',
}


def read_regular(path: str | Path, *, start: int = 0, count: int | None = None) -> bytes:
    """Read a regular file, or a part of it.

    Args:
        path: The file.
        start: First byte.
        count: Bytes to read, at most; up to the end if not given.

    Raises:
        ValueError: It is something else, or more than `MAX_BYTES` are to be read; the message
            follows the file's name.
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        if count is None:
            count = max(os.fstat(file.fileno()).st_size - start, 0)
        refuse_size(count)
        file.seek(start)
        return file.read(count)


def open_regular(path: str | Path) -> BufferedReader:
    """A regular file to read, of any size.

    Raises:
        ValueError: It is something else; the message follows the file's name.
        OSError: It cannot be read.
    """
    file = open(path, 'rb', opener=_without_waiting)  # noqa: SIM115
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        kind = _NODES.get(stat.S_IFMT(mode), 'something else')
        raise ValueError(f'is {kind}, expected a regular file')
    return file


def refuse_size(count: int) -> None:
    """Raises: ValueError: These are too many bytes to read at once."""
    if count > MAX_BYTES:
        raise ValueError(f'has {count} bytes, expected at most {MAX_BYTES}')


def _without_waiting(path: str | Path, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
