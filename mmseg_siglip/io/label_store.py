"""Labels of many images on disk, whole at every moment, whoever is killed when.

Processes write side by side, each under its own number; what is there says what is done.
"""

from __future__ import annotations

import json
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

import yaml
from pycocotools import mask as coco_mask

from mmseg_siglip.io.files import whole_file, write_atomically
from mmseg_siglip.io.journal import Journal, drop_cut_line, read_lines
from mmseg_siglip.io.outlines import outlines

if TYPE_CHECKING:
    from mmseg_siglip.api.segmentation import Segmentation

KEYS = {'file_name', 'height', 'width', 'annotations'}


class LabelStore(ABC):
    """Where labels go.

    Args:
        folder: Where the labels go.
        process: Number of the writing process.

    Attributes:
        suffixes: Of the files that are written for an image, after its name.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, folder: Path, process: int) -> None:
        self.folder, self.process = folder, process

    @abstractmethod
    def done(self) -> set[str]:
        """Names of the images that are labelled; called before any process writes."""

    @abstractmethod
    def write(self, name: str, result: Segmentation) -> None:
        """Keep the labels of image `name`, a relative path."""

    @abstractmethod
    def finish(self, classes: Sequence[str], info: dict[str, Any]) -> None:
        """Make the final form; called by one process after all have written."""


class PNGStore(LabelStore):
    """``labels/<name>.png`` for each image, as `Segmentation.save` writes it.

    ``classes.txt`` has the name of each value, a line each from 0.
    """

    suffixes = ('.png',)

    @property
    def labels(self) -> Path:
        return self.folder / 'labels'

    def done(self) -> set[str]:
        return {
            file.relative_to(self.labels).as_posix().removesuffix('.png')
            for file in self.labels.rglob('*.png')
            if file.is_file()
        }

    def write(self, name: str, result: Segmentation) -> None:
        draft = self._drafts / f'{self.process:04d}.png'
        with whole_file(self.labels / f'{name}.png', draft=draft):
            result.save(draft)

    @property
    def _drafts(self) -> Path:
        return self.folder / '.drafts'

    def finish(self, classes: Sequence[str], info: dict[str, Any]) -> None:
        shutil.rmtree(self._drafts, ignore_errors=True)
        write_atomically(''.join(f'{name}\n' for name in classes), self.folder / 'classes.txt')


class JournalStore(LabelStore):
    """A journal for each process.

    A line of ``journal/<process>.jsonl`` holds one image: ``file_name``, ``height``, ``width`` and
    ``annotations``, the entries of `Segmentation.to_coco_rle`. A line that a kill cut short is
    dropped, and its image counts as not done.
    """

    def __init__(self, folder: Path, process: int) -> None:
        super().__init__(folder, process)
        self._journal = Journal(folder / 'journal' / f'{process:04d}.jsonl')

    def done(self) -> set[str]:
        for path in self._journals():
            drop_cut_line(path)
        return {
            record['file_name'] for path in self._journals() for _, record in read_lines(path, KEYS)
        }

    def write(self, name: str, result: Segmentation) -> None:
        height, width = result.labels.shape
        record = dict(file_name=name, height=height, width=width, annotations=result.to_coco_rle())
        self._journal.append(record)

    def records(self) -> Records:
        """What the journals hold, as often as it is asked for, one image in memory at a time."""
        return Records(
            {
                record['file_name']: (path, offset)
                for path in self._journals()
                for offset, record in read_lines(path, KEYS)
            }
        )

    def _journals(self) -> list[Path]:
        return sorted((self.folder / 'journal').glob('*.jsonl'))


class COCOStore(JournalStore):
    """At the end ``labels.json``, a data set in COCO's format, and ``results.json``.

    Categories are numbered from 1. The id of an image is the number that it is called by where all
    are, as COCO's are, else its place from 1. ``results.json`` is what ``COCO.loadRes`` takes:
    entries with ids, score and RLE, without the boxes from which it would make masks.
    """

    @staticmethod
    def shape(rle: dict) -> dict | list:
        """The ``segmentation`` of an annotation."""
        return rle

    def finish(self, classes: Sequence[str], info: dict[str, Any]) -> None:
        records = self.records()
        target = self.folder / 'labels.json'
        with whole_file(target) as draft, draft.open('w', encoding='utf-8') as out:
            names = [dict(id=index, name=name) for index, name in enumerate(classes, 1)]
            out.write(f'{{"info": {json.dumps(info)},\n"categories": {json.dumps(names)},\n')
            out.write('"images": ')
            _write_list(_images(records), out)
            out.write(',\n"annotations": ')
            _write_list(_annotations(records, self.shape), out)
            out.write('}\n')
        target = self.folder / 'results.json'
        with whole_file(target) as draft, draft.open('w', encoding='utf-8') as out:
            _write_list(_results(records), out)


class COCOPolygonStore(COCOStore):
    """As `COCOStore`, with polygons in ``labels.json``, see `outlines`."""

    @staticmethod
    def shape(rle: dict) -> list:
        return [ring.ravel().tolist() for ring in outlines(coco_mask.decode(rle) == 1)]


class YOLOStore(JournalStore):
    """At the end ``labels/<name>.txt`` for each image and ``data.yaml``, as YOLO segments.

    A line is the class and the outline of a connected part, x and y as parts of the image's sides.

    Raises:
        ValueError: Two images differ in nothing but their suffixes.
    """

    def finish(self, classes: Sequence[str], info: dict[str, Any]) -> None:
        records = self.records()
        stems: dict[str, str] = {}
        for name in records.places:
            stem = PurePosixPath(name).with_suffix('').as_posix()
            if stems.setdefault(stem, name) != name:
                raise ValueError(f'labels/{stem}.txt is of two images, {stems[stem]} and {name}')
        for record in records:
            stem = PurePosixPath(record['file_name']).with_suffix('')
            lines = _yolo_lines(record)
            write_atomically(''.join(lines), self.folder / 'labels' / f'{stem.as_posix()}.txt')
        names = dict(enumerate(classes))
        text = yaml.safe_dump(dict(names=names), allow_unicode=True, sort_keys=False)
        write_atomically(text, self.folder / 'data.yaml')


STORES: dict[str, type[LabelStore]] = {
    'png': PNGStore,
    'coco': COCOStore,
    'coco-polygons': COCOPolygonStore,
    'yolo': YOLOStore,
}


@dataclass(frozen=True)
class Records:
    """Records of journals by the names of their images.

    Attributes:
        places: Name of an image to the journal and the byte where its line begins.
    """

    places: dict[str, tuple[Path, int]]

    def __iter__(self) -> Iterator[dict]:
        files = {path: path.open('rb') for path in {path for path, _ in self.places.values()}}
        try:
            for name in sorted(self.places):
                path, offset = self.places[name]
                files[path].seek(offset)
                yield json.loads(files[path].readline())
        finally:
            for file in files.values():
                file.close()

    @property
    def ids(self) -> list[int]:
        """A number for each image, see `COCOStore`."""
        stems = [PurePosixPath(name).stem for name in sorted(self.places)]
        numbers = [int(stem) for stem in stems if re.fullmatch('[0-9]{1,15}', stem)]
        return numbers if len(set(numbers)) == len(stems) else list(range(1, len(stems) + 1))


def _write_list(rows: Iterable[dict], out: TextIO) -> None:
    out.write('[')
    for count, row in enumerate(rows):
        out.write((',\n' if count else '\n') + json.dumps(row))
    out.write('\n]')


def _images(records: Records) -> Iterator[dict]:
    for number, record in zip(records.ids, records, strict=True):
        yield dict(id=number, **{key: record[key] for key in ('file_name', 'height', 'width')})


def _entries(records: Records) -> Iterator[dict]:
    for number, record in zip(records.ids, records, strict=True):
        for entry in record['annotations']:
            yield dict(entry, image_id=number, category_id=entry['category_id'] + 1)


def _annotations(records: Records, shape: Callable[[dict], dict | list]) -> Iterator[dict]:
    for number, entry in enumerate(_entries(records), 1):
        yield dict(entry, id=number, iscrowd=0, segmentation=shape(entry['segmentation']))


def _results(records: Records) -> Iterator[dict]:
    for entry in _entries(records):
        yield {key: value for key, value in entry.items() if key not in ('area', 'bbox')}


def _yolo_lines(record: dict) -> Iterator[str]:
    sides = record['width'], record['height']
    for entry in record['annotations']:
        for ring in outlines(coco_mask.decode(entry['segmentation']) == 1):
            numbers = ' '.join(f'{value:.9g}' for value in (ring / sides).ravel())
            yield f'{entry["category_id"]} {numbers}\n'
