"""What is labelled as one: some files, a tar, a Parquet file; see `streams` for data sets.

A shard is small and can be pickled: it knows where its images are, and reads them when asked to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from mmseg_siglip.io.failures import Failure
from mmseg_siglip.io.image_source import ImageEntry, refuse_name, tar_members
from mmseg_siglip.io.regular_file import MAX_BYTES
from mmseg_siglip.labelling.addresses import is_url, on_disk

PART = 64  # rows of a Parquet file in memory at a time


class Member(Protocol):
    """One image of a shard.

    Attributes:
        name: Relative path, unique within a run; what is made of the image is named after it.
        place: What to call it in a message.
    """

    name: str
    place: str

    def read(self) -> bytes:
        """The encoded image.

        Raises:
            ValueError: It cannot be read; the message follows `place`.
        """


@dataclass(frozen=True)
class Encoded:
    """An image that is in memory already."""

    name: str
    place: str
    data: bytes

    def read(self) -> bytes:
        return self.data


class Shard(Protocol):
    """What is labelled as one.

    Attributes:
        name: Of its output object: letters, digits, dots, underscores and hyphens.
        place: What to call it in a message.
    """

    name: str
    place: str

    def members(self) -> Iterator[Member | Failure]:
        """Its images in their order, and what should be one and is none.

        Raises:
            ValueError: It cannot be read at all; the message follows `place`.
        """


@dataclass(frozen=True)
class FileShard:
    """Some of the files that a folder holds, or that a list names."""

    name: str
    place: str
    entries: tuple[ImageEntry | Failure, ...]

    def members(self) -> Iterator[Member | Failure]:
        return checked(self.entries)


@dataclass(frozen=True)
class TarShard:
    """A tar of images, on this machine or at an address that fsspec knows."""

    name: str
    place: str

    def members(self) -> Iterator[Member | Failure]:
        with on_disk(self.place) as path:
            stem = stem_of_place(self.place)
            found = checked(tar_members(path, shown=self.place, stem=stem))
            yield from map(read_now, found) if is_url(self.place) else found


@dataclass(frozen=True)
class ParquetShard:
    """A Parquet file with a column of images, as Hugging Face data sets are published.

    Row 12 is called ``<file's stem>/000012``.

    Attributes:
        column: Of structs with ``bytes`` and perhaps ``path``, or of bytes.
    """

    name: str
    place: str
    column: str = 'image'

    def members(self) -> Iterator[Member | Failure]:
        with on_disk(self.place) as path:
            yield from checked(self._rows(path))

    def _rows(self, path: Path) -> Iterator[Member | Failure]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        stem, row = stem_of_place(self.place), 0
        try:
            with pq.ParquetFile(path) as file:
                columns = file.schema_arrow.names
                if self.column not in columns:
                    raise ValueError(
                        f'expected a column {self.column!r}, found {", ".join(columns)}'
                    )
                for batch in file.iter_batches(PART, columns=[self.column]):
                    for value in batch.column(0).to_pylist():
                        yield encoded_of(value, f'{stem}/{row:06d}', f'{self.place}: row {row}')
                        row += 1
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f'is no whole Parquet file: {error}') from error


def encoded_of(value: object, name: str, place: str) -> Encoded | Failure:
    """A cell of a table as an image; a path in it is never opened."""
    data = value.get('bytes') if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        return Failure(place, f'expected the bytes of an image, found {type(data).__name__}')
    if len(data) > MAX_BYTES:
        return Failure(place, f'has {len(data)} bytes, expected at most {MAX_BYTES}')
    return Encoded(name, place, data)


def read_now(member: Member | Failure) -> Encoded | Failure:
    """A member that needs its file no longer."""
    if isinstance(member, Failure):
        return member
    try:
        return Encoded(member.name, member.place, member.read())
    except ValueError as error:
        return Failure.of(member.place, error)


def checked(members: Iterator[Member | Failure]) -> Iterator[Member | Failure]:
    """Those whose names can become paths below another folder; failures in the place of others."""
    for member in members:
        refusal = None if isinstance(member, Failure) else refuse_name(member)
        yield refusal or member


def stem_of_place(place: str) -> str:
    """``s3://bucket/a/shard-1.tar`` to ``shard-1``."""
    return os.path.splitext(place.rstrip('/').rpartition('/')[2])[0]


def shard_name(place: str, about: str = '') -> str:
    """A name for the object of what lies there: readable, and of no other place or content."""
    stem = re.sub('[^A-Za-z0-9._-]', '_', stem_of_place(place)).lstrip('._')[:80]
    text = f'{absolute(place)}\0{about}'.encode('utf-8', 'surrogateescape')
    return f'{stem or "images"}-{blake2b(text, digest_size=6).hexdigest()}'


def absolute(place: str) -> str:
    """A path from the root; an address, or the name of a data set, as it is."""
    return place if is_url(place) or place.startswith('datasets:') else os.path.abspath(place)
