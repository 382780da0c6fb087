"""Data sets of the library ``datasets``, streamed: any of the Hub's layouts, none on this disk.

datasets:owner/name?split=train&column=image&subset=plain&revision=1a2b3c
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from mmseg_siglip.io.failures import Failure
from mmseg_siglip.labelling.shards import Member, checked, encoded_of, shard_name

PREFIX = 'datasets:'
KEYS = ('split', 'column', 'subset', 'revision')


@dataclass(frozen=True)
class Stream:
    """A split of a data set.

    Attributes:
        source: A Hub id, or a folder that the library knows how to read.
        split: Of it.
        column: Of the images.
        subset: Its configuration, where it has several.
        revision: Commit of a Hub id.
    """

    source: str
    split: str = 'train'
    column: str = 'image'
    subset: str | None = None
    revision: str | None = None

    @classmethod
    def of(cls, text: str) -> Stream:
        """What an argument names.

        Raises:
            ValueError: It has other settings than `KEYS`.
        """
        source, _, query = text.removeprefix(PREFIX).partition('?')
        given = dict(parse_qsl(query, keep_blank_values=True))
        if strange := given.keys() - set(KEYS):
            raise ValueError(f'{text}: expected {", ".join(KEYS)}, found {min(strange)}')
        return cls(source, **given)

    def open(self):
        """The library's own, with images as bytes.

        Raises:
            ValueError: It cannot be read, or has no such column.
            ImportError: ``datasets`` is not installed.
        """
        from mmseg_siglip.datasets.hugging_face import datasets_library

        datasets = datasets_library()
        folder = Path(self.source).expanduser()
        source = str(folder.resolve()) if folder.is_dir() else self.source
        try:
            found = datasets.load_dataset(
                source, self.subset, split=self.split, revision=self.revision, streaming=True
            )
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            line = str(error).strip().split('\n')[0]
            raise ValueError(f'{self.source} cannot be read as a data set: {line}') from error
        columns = found.column_names or []
        if self.column not in columns:
            raise ValueError(
                f'{self.source}: expected a column {self.column!r}, found {", ".join(columns)}'
            )
        kept = found.select_columns([self.column])
        return kept.cast_column(self.column, datasets.Image(decode=False))

    def shards(self, text: str) -> Iterator[DatasetShard]:
        """A shard for each file of the data set; `text` is the argument."""
        parts = self.open().num_shards
        for part in range(parts):
            about = f'{part} of {parts}'
            place = f'{self.source} ({self.split}), file {about}'
            yield DatasetShard(shard_name(text, about), place, text, part, parts)

    def members(self, part: int, parts: int) -> Iterator[Member | Failure]:
        """Row 12 of file 3 is called ``<split>/00003/000012``."""
        rows = self.open().shard(num_shards=parts, index=part)
        try:
            for row, record in enumerate(rows):
                name = f'{self.split}/{part:05d}/{row:06d}'
                yield encoded_of(record[self.column], name, f'{self.source}: {name}')
        except (OSError, RuntimeError) as error:
            reason = str(error).strip().split('\n')[0]
            raise ValueError(f'ends before its end: {type(error).__name__}: {reason}') from error


@dataclass(frozen=True)
class DatasetShard:
    """A part of a streamed data set of the library ``datasets``.

    Attributes:
        source: The argument that names the data set.
        part: Number of this part.
        parts: Of how many.
    """

    name: str
    place: str
    source: str
    part: int
    parts: int

    def members(self) -> Iterator[Member | Failure]:
        return checked(Stream.of(self.source).members(self.part, self.parts))
