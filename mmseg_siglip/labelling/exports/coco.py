"""COCO's format: https://cocodataset.org/#format-data and #format-results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from mmseg_siglip.api.segmentation import coco_entry
from mmseg_siglip.io.failures import Failure
from mmseg_siglip.io.files import whole_file
from mmseg_siglip.io.outlines import outlines
from mmseg_siglip.labelling.tables import Tables

Shape = Callable[[dict, np.ndarray], object]
"""An RLE and its mask to the ``segmentation`` of an annotation."""


def coco(tables: Tables, folder: Path) -> list[Failure]:
    """``labels.json``, a data set, and ``results.json``, for ``COCO.loadRes``.

    Categories are numbered from 1. The id of an image is the number that it is called by where all
    are, as COCO's are, else its place from 1. Entries of ``results.json`` have ids, score and RLE,
    without the boxes from which ``loadRes`` would make masks.
    """
    return _write(tables, folder, lambda rle, mask: rle)


def coco_polygons(tables: Tables, folder: Path) -> list[Failure]:
    """As `coco`, with polygons in ``labels.json``, see `outlines`."""
    return _write(tables, folder, lambda rle, mask: [r.ravel().tolist() for r in outlines(mask)])


def _write(tables: Tables, folder: Path, shape: Shape) -> list[Failure]:
    ids = image_ids(tables)
    names = [dict(id=index, name=name) for index, name in enumerate(tables.classes, 1)]
    about = dict(settings=tables.digest)
    with _json(folder / 'labels.json') as labels, _json(folder / 'results.json') as results:
        labels.write(f'{{"info": {json.dumps(about)},\n"categories": {json.dumps(names)},\n')
        labels.write('"images": ')
        _write_list(_images(tables, ids), labels)
        labels.write(',\n"annotations": ')
        results.write('[')
        _write_list(_annotations(tables, ids, shape, _List(results)), labels)
        labels.write('}\n')
        results.write('\n]')
    return []


@contextmanager
def _json(path: Path) -> Iterator[IO[str]]:
    with whole_file(path) as draft, draft.open('w', encoding='utf-8') as file:
        yield file


def image_ids(tables: Tables) -> np.ndarray:
    """A number for each image, see `coco`."""
    numbers, count = [], 0
    for image in tables.sizes():
        stem = PurePosixPath(image.name).stem
        if numbers is not None and re.fullmatch('[0-9]{1,15}', stem):
            numbers.append(int(stem))
        else:
            numbers = None
        count += 1
    if numbers is not None and len(np.unique(np.array(numbers, np.int64))) == count:
        return np.array(numbers, np.int64)
    return np.arange(1, count + 1)


class _List:
    """A JSON list that is written row by row."""

    def __init__(self, out: IO[str]) -> None:
        self.out, self.count = out, 0

    def add(self, row: dict) -> None:
        self.out.write((',\n' if self.count else '\n') + json.dumps(row))
        self.count += 1


def _write_list(rows: Iterable[dict], out: IO[str]) -> None:
    out.write('[')
    target = _List(out)
    for row in rows:
        target.add(row)
    out.write('\n]')


def _images(tables: Tables, ids: np.ndarray) -> Iterator[dict]:
    for number, image in zip(ids.tolist(), tables.sizes(), strict=True):
        yield dict(id=number, file_name=image.name, height=image.height, width=image.width)


def _annotations(tables: Tables, ids: np.ndarray, shape: Shape, results: _List) -> Iterator[dict]:
    count = 0
    for number, image in zip(ids.tolist(), tables.images(), strict=True):
        for index, mask, score in tables.masks(image):
            entry = coco_entry(
                mask,
                score,
                category_id=index + 1,
                category=tables.classes[index],
                image_id=None,
            )
            count += 1
            full = dict(entry, image_id=number, id=count, iscrowd=0)
            results.add({k: v for k, v in full.items() if k not in OF_A_DATA_SET})
            yield dict(full, segmentation=shape(entry['segmentation'], mask))


OF_A_DATA_SET = {'area', 'bbox', 'id', 'iscrowd'}
"""What entries of results do not have."""
