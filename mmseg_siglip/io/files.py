"""Files that are there whole or not at all, whoever is killed when."""

from __future__ import annotations

import csv
import errno
import io
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

NO_ROOM = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)
"""What a disk says that is full or may only be read."""


@contextmanager
def whole_file(
    path: str | Path, *, draft: Path | None = None, replaces: Callable[[], bool] = lambda: True
) -> Iterator[Path]:
    """A draft to write, which takes the place of `path` at the end of the block.

    The draft is flushed to disk, then renamed: a reader sees the old file or the new. If the block
    fails, the old file stays and the draft is removed.

    Args:
        path: The place; the folders above it are made.
        draft: On the same disk, and no other process's; by default a new hidden name beside `path`.
        replaces: Asked once the draft is written: whether an old file gives way.

    Raises:
        FileExistsError: It does not, and there is one.
        OSError: It cannot be written; of a full disk the error names `path`.
    """
    path = Path(path)
    draft = draft or path.with_name(f'.{secrets.token_hex(8)}.tmp')
    for file in (path, draft):
        file.parent.mkdir(parents=True, exist_ok=True)
    try:
        draft.touch()
        mode = draft.stat().st_mode
        yield draft
        if draft.stat().st_mode != mode:  # safetensors writes for the owner alone
            draft.chmod(mode)
        with draft.open('rb') as file:
            os.fsync(file.fileno())
        if replaces():
            os.replace(draft, path)
        else:
            _claim(draft, path)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in NO_ROOM and error.filename is None:
            error.filename = str(path)
        raise


def _claim(draft: Path, path: Path) -> None:
    """Rename a draft to where no file is.

    Raises:
        FileExistsError: There is one.
    """
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links: looked at, then renamed
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(draft, path)
    else:
        draft.unlink()


def write_atomically(data: bytes | memoryview | str, path: str | Path) -> None:
    """Write bytes, or text in UTF-8, as a `whole_file`."""
    with whole_file(path) as draft:
        draft.write_bytes(data.encode() if isinstance(data, str) else data)


def write_image(image: Image.Image, path: str | Path, *, kind: str = 'PNG', **options) -> None:
    """Write a picture as a `whole_file`.

    Args:
        image: The picture.
        path: Its place.
        kind: Pillow's name of the format.
        options: Of Pillow's writer.
    """
    with whole_file(path) as draft:
        image.save(draft, kind, **options)


def image_bytes(image: Image.Image, *, kind: str = 'PNG', **options) -> bytes:
    """What `write_image` writes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write_array(array: np.ndarray, path: str | Path) -> None:
    """Write an array as NumPy does, ``.npy``, as a `whole_file`."""
    import numpy as np  # commands that only parse words have no need of it

    with whole_file(path) as draft, draft.open('wb') as file:
        np.save(file, array)


def write_csv(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write rows below the names of their values, which are the first row's, as a `whole_file`."""
    table = io.StringIO(newline='')
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(table.getvalue(), path)
