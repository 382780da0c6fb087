"""The shards that some arguments name, one after another, whatever their number."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from mmseg_siglip.io.failures import Failure
from mmseg_siglip.io.image_folder import PassedOver
from mmseg_siglip.io.image_source import ImageEntry, expand, listing
from mmseg_siglip.labelling.addresses import is_url, matching
from mmseg_siglip.labelling.names import NumberedNames, PackedNames, doubled, number_of, once
from mmseg_siglip.labelling.shards import (
    FileShard,
    ParquetShard,
    Shard,
    TarShard,
    absolute,
    shard_name,
    stem_of_place,
)
from mmseg_siglip.labelling.streams import PREFIX, Stream

SIZE = 200  # files of a shard, on average
TABLES = ('.parquet',)


class Listing:
    """What is to be labelled, as shards.

    A tar and a Parquet file is a shard. The files of a folder or list are cut into shards after
    names whose digest ends so and so: a file that comes or goes changes its own shard, not those
    behind it. Nothing is held of files and ranges but for 16 bytes a name that comes twice; to find
    those in lists, ranges and several arguments takes 8 bytes a name before the run. What an
    address with stars stands for is held, packed.

    Args:
        arguments: Folders (searched through, links followed), images, tars, Parquet files, and
            other files, which are lists: one path a line, relative to the list. Tars and Parquet
            files may be numbered, as ``shard-{000..003}.tar``, and be addresses of fsspec, as
            ``s3://bucket/shard-{000..003}.tar`` or ``s3://bucket/shard-*.tar``, which is listed
            once; data sets are streamed, see `mmseg_siglip.labelling.streams`. What several of
            them name counts once.
        size: Files of a shard, on average.
        column: Of Parquet files, the one with images.

    Attributes:
        roots: The arguments, each once, as whole paths, sorted.
        others: What was passed over so far.

    Raises:
        ValueError: Something is not there, or two images or tars have one name.
    """

    def __init__(
        self, arguments: Sequence[str], *, size: int = SIZE, column: str = 'image'
    ) -> None:
        self.size, self.column = size, column
        self.streams: list[str] = list(dict.fromkeys(text for text in arguments if is_stream(text)))
        archives = list(dict.fromkeys(text for text in arguments if is_archive(text)))
        rest = [text for text in arguments if not is_stream(text) and not is_archive(text)]
        self.plain = list(map(Path, rest))
        for text in self.streams:
            Stream.of(text)
            if len({*arguments}) > 1:
                raise ValueError(f'{text}: expected one data set alone, found more than that')
        for text in rest:
            if is_url(text):
                raise ValueError(f'{text}: expected a tar or Parquet file at an address')
        self.archives = archives
        self._found = {
            text: PackedNames(without_stars(text)) for text in filter(has_star, archives)
        }
        for text in archives:
            for place in expand_ends(text):
                if not is_url(place) and not os.path.isfile(place):
                    raise ValueError(f'{place}: no such folder, image, list or tar file')
        for path in self.plain:
            listing(path)
        places = (text if is_url(text) else os.path.realpath(text) for text in [*rest, *archives])
        self.roots = sorted({*places, *self.streams})
        self._twice = NumberedNames(())
        if len(self.plain) > 1 or any(not path.is_dir() for path in self.plain):
            self._twice = doubled(entry.name for entry in self._entries(PassedOver()))
            deque(self._once(PassedOver()) if self._twice else (), maxlen=0)
        self._archives_twice = doubled(map(stem_of_place, self._places()))
        deque(self._archives_once() if self._archives_twice else (), maxlen=0)
        stems = NumberedNames(map(stem_of_place, self._places()) if self.plain else ())
        for entry in self._entries(PassedOver()) if stems else ():
            refuse_in_archive(entry, stems)
        self.others = PassedOver()

    def shards(self) -> Iterator[Shard]:
        """All shards, in the same order each time."""
        self.others = PassedOver()
        for place in self._archives_once():
            if place.endswith(TABLES):
                yield ParquetShard(shard_name(place), place, self.column)
            else:
                yield TarShard(shard_name(place), place)
        for text in self.streams:
            yield from Stream.of(text).shards(text)
        part: list[ImageEntry | Failure] = []
        for item in self._once(self.others):
            part.append(item)
            if self._ends(part):
                yield self._shard(part)
                part = []
        if part:
            yield self._shard(part)

    def _ends(self, part: Sequence[ImageEntry | Failure]) -> bool:
        last = part[-1]
        text = last.name if isinstance(last, ImageEntry) else last.path
        chosen = number_of(text) % max(self.size // 2, 1) == 0
        return len(part) >= 2 * self.size or (chosen and 2 * len(part) >= self.size)

    def _shard(self, part: Sequence[ImageEntry | Failure]) -> FileShard:
        first = part[0]
        place = first.file if isinstance(first, ImageEntry) else first.path
        files = (item.file if isinstance(item, ImageEntry) else item.path for item in part)
        about = '\0'.join(map(absolute, files))
        name = shard_name(place, about)
        return FileShard(name, f'{len(part)} files from {place}', tuple(part))

    def _items(self, others: PassedOver) -> Iterator[ImageEntry | Failure]:
        for path in self.plain:
            for item in listing(path)[1]:
                if isinstance(item, str):
                    others.add(item)
                else:
                    yield item

    def _entries(self, others: PassedOver) -> Iterator[ImageEntry]:
        return (item for item in self._items(others) if isinstance(item, ImageEntry))

    def _once(self, others: PassedOver) -> Iterator[ImageEntry | Failure]:
        return once(
            partial(self._items, others),
            lambda item: item.name if isinstance(item, ImageEntry) else None,
            lambda item: item.file,
            self._twice,
        )

    def _places(self) -> Iterator[str]:
        return (place for text in self.archives for place in self._found.get(text) or expand(text))

    def _archives_once(self) -> Iterator[str]:
        return once(self._places, stem_of_place, str, self._archives_twice)


def refuse_in_archive(entry: ImageEntry, stems: NumberedNames) -> None:
    """Raises: ValueError: A member of a tar, of these stems, could have the name of this file."""
    stem, slash, _ = entry.name.partition('/')
    if slash and stem in stems:
        raise ValueError(
            f'{entry.file}: expected no folder with the name of a tar beside it, found {stem}; '
            'label them into two folders'
        )


def is_stream(text: str) -> bool:
    """Whether an argument is a data set to stream."""
    return text.startswith(PREFIX)


def is_archive(text: str) -> bool:
    """Whether an argument is a shard by itself, or a range of such."""
    return not is_stream(text) and text.endswith(('.tar', *TABLES)) and not os.path.isdir(text)


def has_star(text: str) -> bool:
    """Whether an argument is an address with stars."""
    return is_url(text) and '*' in text


def without_stars(text: str) -> Iterator[str]:
    """What lies at an address with stars, of each number of its range; another text as it is.

    Raises:
        ValueError: Nothing lies there, or it cannot be asked.
    """
    if not has_star(text):
        yield text
        return
    for address in expand(text):
        yield from matching(address)


def expand_ends(pattern: str) -> Iterator[str]:
    """What `expand` gives first and last, which are looked for before the run begins."""
    last = None
    for place in expand(pattern):
        if last is None:
            yield place
        last = place
    if last is not None:
        yield last
