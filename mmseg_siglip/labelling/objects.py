"""Output objects of shards, whole or not there, in a folder or an object storage.

manifest.json            the settings by which the folder is filled
shards/<name>.parquet    a table for each shard
shards.txt               the names of the shards of the last run that came to its end
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from mmseg_siglip.io.failures import OutputError
from mmseg_siglip.io.files import whole_file
from mmseg_siglip.io.manifest import (
    MANIFEST,
    manifest_of,
    read_manifest,
    refuse_other_settings,
    refuse_strange,
)
from mmseg_siglip.labelling.addresses import said_by_store
from mmseg_siglip.labelling.names import NumberedNames

INDEX = 'shards.txt'
SHARDS = 'shards'
SUFFIX = '.parquet'
PART = 16  # rows in memory at a time


class ShardStore:
    """Where the tables of shards go, and are found again.

    In a folder an object is a draft beside it that is flushed to disk and renamed; in an object
    storage it is put by one request. So no reader ever sees half of one.

    Args:
        url: A folder, or an address that fsspec knows.

    Raises:
        ValueError: There is no such kind of address, or its package is not installed.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        try:
            self.fs, self.root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise ValueError(f'{url}: {error}') from error
        self.local = isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        return f'{self.root}/{SHARDS}/{name}{SUFFIX}'

    def claim(self, settings: Mapping[str, Any]) -> None:
        """See that the folder is filled by these settings, or is to be from now on.

        Args:
            settings: Plain values.

        Raises:
            ValueError: It was filled by others, or something else is in it.
            OutputError: It cannot be written, or not be reached.
        """
        settings = json.loads(json.dumps(settings))
        if not self._there(self._manifest):
            if self._there(self.root):
                with self._reaching(self.root):
                    paths = self.fs.ls(self.root, detail=False)
                names = [path.rstrip('/').rpartition('/')[2] for path in paths]
                if MANIFEST not in names:  # which another rank may just have written
                    refuse_strange(self.url, names)
            self._put(manifest_of(settings).encode(), self._manifest, if_absent=True)
        refuse_other_settings(self.url, self.settings(), settings)

    @property
    def _manifest(self) -> str:
        return f'{self.root}/{MANIFEST}'

    def settings(self) -> dict[str, Any]:
        """By which it was filled.

        Raises:
            ValueError: There is no manifest of such a folder, or it cannot be read.
        """
        try:
            with self._reaching(self._manifest):
                data = self.fs.cat_file(self._manifest)
            return read_manifest(data, self._address(self._manifest))
        except FileNotFoundError:
            raise ValueError(f'{self.url}: expected {MANIFEST}, found none') from None

    def done(self) -> NumberedNames:
        """The objects that are there now."""
        return NumberedNames(self._names())

    def has(self, name: str) -> bool:
        return self._there(self.path(name))

    def put(
        self,
        name: str,
        write: Callable[[IO[bytes]], None],
        *,
        replaces: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Commit an object.

        Args:
            name: Of the shard.
            write: Called with a file to write the table to.
            replaces: Asked once the table is written: whether an object that is there gives way.

        Returns:
            Whether it is this one that is there now.

        Raises:
            OutputError: It cannot be written.
        """
        path = self.path(name)
        there = self._there(path)
        if not self.local:
            try:
                with tempfile.TemporaryFile() as file:
                    write(file)
                    file.seek(0)
                    data = file.read()
            except OSError as error:
                raise OutputError(
                    f'{self._address(path)}: cannot be written to a temporary file: {error}'
                ) from error
            return self._put(data, path, if_absent=not replaces())
        target = Path(path)
        try:
            with whole_file(target, replaces=replaces) as draft, draft.open('wb') as file:
                write(file)
        except OSError as error:
            if isinstance(error, FileExistsError) and self.has(name):
                return False
            if isinstance(error, FileNotFoundError) and not there and self.has(name):
                return True  # a run that found all done has removed the draft
            raise OutputError(f'{target}: cannot be written: {error.strerror or error}') from error
        return True

    def open(self, name: str) -> pq.ParquetFile:
        """A table.

        Raises:
            ValueError: It is not there, no Parquet file, or cannot be read.
        """
        path = self.path(name)
        try:
            with self._reaching(path):
                return parquet_file(self.fs.open(path, 'rb'))
        except FileNotFoundError:
            raise ValueError(f'{self._address(path)}: no such file') from None
        except pa.ArrowException as error:
            raise ValueError(f'{self._address(path)} is no whole Parquet file: {error}') from error

    def rows(self, name: str, *, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        """Rows of a table, some at a time in memory."""
        with self.open(name) as file:
            batches = file.iter_batches(PART, columns=columns)
            while True:
                with self._reaching(self.path(name)):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield from batch.to_pylist()

    def failed(self, name: str) -> bool:
        """Whether a row of the table is a failure."""
        labelled, rows = self.count(name)
        return labelled < rows

    def count(self, name: str) -> tuple[int, int]:
        """How many rows of the table are labelled, and how many there are, by its statistics.

        Raises:
            ValueError: See `open`; or it is no table of labels.
        """
        with self.open(name) as file:
            column = file.schema_arrow.get_field_index('failure')
            groups = [file.metadata.row_group(g) for g in range(file.num_row_groups)]
            columns = [group.column(column) for group in groups] if column >= 0 else [None]
        if any(held is None or held.statistics is None for held in columns):
            address = self._address(self.path(name))
            raise ValueError(f'{address}: expected a column failure with statistics, found none')
        return sum(c.statistics.null_count for c in columns), sum(c.num_values for c in columns)

    def write_index(self, names: Iterable[str]) -> int:
        """Say which shards make up the result; how many they are."""
        count = 0
        with tempfile.TemporaryFile() as file:
            for name in names:
                file.write(f'{name}\n'.encode())
                count += 1
            file.seek(0)
            self._put(file.read(), f'{self.root}/{INDEX}')
        return count

    def index(self) -> Iterator[str]:
        """The names of the shards that make up the result.

        Raises:
            ValueError: No run has come to its end.
        """
        path = f'{self.root}/{INDEX}'
        if not self._there(path):
            raise ValueError(f'{self.url}: expected {INDEX} of a run that has ended, found none')
        with self._reaching(path), self.fs.open(path, 'rb') as file:
            for line in file:
                yield line.decode().removesuffix('\n')

    def remove_drafts(self) -> None:
        """Remove what killed workers have left."""
        for draft in Path(self.root, SHARDS).glob('.*.tmp') if self.local else ():
            draft.unlink(missing_ok=True)

    def _there(self, path: str) -> bool:
        if self.local:
            return os.path.exists(path)
        self.fs.invalidate_cache()
        with self._reaching(path):
            return self.fs.exists(path)

    def _names(self) -> Iterator[str]:
        folder = f'{self.root}/{SHARDS}'
        if self.local:
            if os.path.isdir(folder):
                with os.scandir(folder) as items:
                    yield from (i.name[: -len(SUFFIX)] for i in items if _is_object(i.name))
            return
        if self._there(folder):
            with self._reaching(folder):
                paths = self.fs.ls(folder, detail=False)
            for path in paths:
                name = path.rpartition('/')[2]
                if _is_object(name):
                    yield name[: -len(SUFFIX)]

    def _put(self, data: bytes, path: str, *, if_absent: bool = False) -> bool:
        try:
            if self.local:
                with whole_file(path, replaces=lambda: not if_absent) as draft:
                    draft.write_bytes(data)
            else:
                self.fs.pipe_file(path, data, mode='create' if if_absent else 'overwrite')
        except Exception as error:  # each store has its own
            if isinstance(error, FileExistsError) and if_absent and self._there(path):
                return False
            message = f'{self._address(path)}: cannot be written: {said_by_store(error)}'
            raise OutputError(message) from error
        return True

    def _address(self, path: str) -> str:
        return path if self.local else self.fs.unstrip_protocol(path)

    @contextmanager
    def _reaching(self, path: str) -> Iterator[None]:
        """Turn what an object storage raises, each its own, into a sentence with the address."""
        try:
            yield
        except (FileNotFoundError, pa.ArrowException):
            raise
        except Exception as error:
            if self.local:
                raise
            message = f'{self._address(path)}: cannot be reached: {said_by_store(error)}'
            raise OutputError(message) from error


def parquet_file(file: IO[bytes]) -> pq.ParquetFile:
    """Parquet's reader of a file.

    Raises:
        pyarrow.ArrowException: It is none, or damaged.
    """
    try:
        return pq.ParquetFile(file)
    except OSError as error:
        if type(error) is OSError and error.errno is None:  # Arrow's, of a footer that is no footer
            raise pa.ArrowInvalid(str(error)) from error
        raise


def _is_object(name: str) -> bool:
    return name.endswith(SUFFIX) and not name.startswith('.')
