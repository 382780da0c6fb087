"""YOLO's format for segments: https://docs.ultralytics.com/datasets/segment"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import yaml

from mmseg_siglip.io.failures import Failure
from mmseg_siglip.io.files import write_atomically
from mmseg_siglip.io.outlines import outlines
from mmseg_siglip.labelling.exports.files import write_files
from mmseg_siglip.labelling.names import doubled
from mmseg_siglip.labelling.tables import Labelled, Tables


def yolo(tables: Tables, folder: Path) -> list[Failure]:
    """``labels/<name>.txt`` for each image, and ``data.yaml``.

    A line is the class and the outline of a connected part, x and y as parts of the image's sides.

    Raises:
        ValueError: Two images differ in nothing but their suffixes.
    """
    refuse_doubled(tables)
    files = (
        (f'{without_suffix(image)}.txt', ''.join(lines_of(tables, image)).encode())
        for image in tables.images()
    )
    failures = write_files(files, folder / 'labels')
    names = dict(enumerate(tables.classes))
    text = yaml.safe_dump(dict(names=names), allow_unicode=True, sort_keys=False)
    write_atomically(text, folder / 'data.yaml')
    return failures


def without_suffix(image: Labelled) -> str:
    return PurePosixPath(image.name).with_suffix('').as_posix()


def refuse_doubled(tables: Tables) -> None:
    """Raises: ValueError: Two images would have one file, which has no suffix of theirs."""
    twice = doubled(map(without_suffix, tables.sizes()))
    seen: dict[str, str] = {}
    for image in tables.sizes() if twice else ():
        stem = without_suffix(image)
        if stem in twice and seen.setdefault(stem, image.name) != image.name:
            raise ValueError(f'labels/{stem}.txt is of two images, {seen[stem]} and {image.name}')


def lines_of(tables: Tables, image: Labelled) -> Iterator[str]:
    sides = image.width, image.height
    for index, mask, _ in tables.masks(image):
        for ring in outlines(mask):
            numbers = ' '.join(f'{value:.9g}' for value in (ring / sides).ravel())
            yield f'{index} {numbers}\n'
