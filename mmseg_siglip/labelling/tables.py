"""The tables of a run that has ended, read image by image."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from PIL import Image

from mmseg_siglip.io.failures import Failure
from mmseg_siglip.io.image_source import ImageEntry, refuse_name
from mmseg_siglip.io.manifest import digest_of
from mmseg_siglip.labelling.labeller import Row
from mmseg_siglip.labelling.objects import ShardStore


@dataclass(frozen=True)
class Labelled:
    """What was found in one image.

    Attributes:
        name: Relative path.
        height: Pixels.
        width: Pixels.
        rows: As `mmseg_siglip.labelling.rows` describes them.
    """

    name: str
    height: int
    width: int
    rows: tuple[Row, ...]


class Tables:
    """All that a run found, in the order of its shards; read anew each time it is asked for.

    Args:
        store: Where it lies.

    Attributes:
        settings: By which it was made.
        classes: Names of labels, or phrases; none where there is no such thing.

    Raises:
        ValueError: No run has come to its end there.
    """

    def __init__(self, store: ShardStore) -> None:
        self.store, self.settings = store, store.settings()
        self.classes: list[str] = self.settings.get('classes', [])

    @property
    def digest(self) -> str:
        return digest_of(self.settings)

    def failures(self) -> Iterator[Failure]:
        """What could not be labelled."""
        for name in self.store.index():
            for row in self.store.rows(name, columns=['path', 'failure']):
                if row['failure'] is not None:
                    yield Failure(row['path'], row['failure'])

    def sizes(self) -> Iterator[Labelled]:
        """The images without what was found in them."""
        return self._images(['name', 'height', 'width', 'failure'])

    def images(self) -> Iterator[Labelled]:
        """The images with what was found in them."""
        return self._images(None)

    def _images(self, columns: list[str] | None) -> Iterator[Labelled]:
        for shard in self.store.index():
            rows = (row for row in self.store.rows(shard, columns=columns) if found(row))
            for name, group in groupby(rows, key=lambda row: row['name']):
                rows_of_one = tuple(group)
                first = rows_of_one[0]
                refusal = refuse_name(ImageEntry(name, name))
                if refusal is not None:
                    raise ValueError(f'{self.store.path(shard)}: {refusal}')
                yield Labelled(name, first['height'], first['width'], rows_of_one)

    def masks(self, image: Labelled) -> Iterator[tuple[int, np.ndarray, float]]:
        """Index in `classes`, mask (H, W) bool and score of each class or phrase that occurs."""
        for row in image.rows:
            pixels = read_png(row['png'])
            if 'phrase' in row:
                if pixels.any():
                    yield self.classes.index(row['phrase']), pixels > 0, row['score']
                continue
            for index, score in zip(row['found'], row['scores'], strict=True):
                yield index, pixels == index, score


def found(row: dict[str, Any]) -> bool:
    return row['failure'] is None


def read_png(data: bytes) -> np.ndarray:
    """(H, W) of a PNG that `Result.to_row` made."""
    return np.array(Image.open(io.BytesIO(data)))
