"""Labels of many images on disk, whole at every moment, whoever is killed when.

Processes write side by side, each under its own number; what is there says what is done.
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmseg_siglip.io.files import whole_file
from mmseg_siglip.io.journal import Journal, drop_cut_line, read_lines

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
    """``labels/<name>.png`` for each image, as `Segmentation.save` writes it."""

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
        """The files are the final form."""
        shutil.rmtree(self._drafts, ignore_errors=True)


class COCOStore(LabelStore):
    """A journal for each process, and at the end ``labels.json`` in COCO's format.

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

    def finish(self, classes: Sequence[str], info: dict[str, Any]) -> None:
        """Merge all journals, sorted by name, one image in memory at a time."""
        places = {
            record['file_name']: (path, offset)
            for path in self._journals()
            for offset, record in read_lines(path, KEYS)
        }
        target = self.folder / 'labels.json'
        with whole_file(target) as draft, draft.open('w', encoding='utf-8') as out:
            names = [dict(id=index, name=name) for index, name in enumerate(classes)]
            out.write(f'{{"info": {json.dumps(info)},\n"categories": {json.dumps(names)},\n')
            for key, rows in (('images', _images), ('annotations', _annotations)):
                out.write(f'"{key}": [')
                for count, row in enumerate(rows(places)):
                    out.write((',\n' if count else '\n') + json.dumps(row))
                out.write('\n]' + (',\n' if key == 'images' else '}\n'))

    def _journals(self) -> list[Path]:
        return sorted((self.folder / 'journal').glob('*.jsonl'))


STORES: dict[str, type[LabelStore]] = dict(png=PNGStore, coco=COCOStore)

Places = dict[str, tuple[Path, int]]
"""Name of an image to the journal and the byte where its line begins."""


def _records(places: Places) -> Iterator[tuple[int, dict]]:
    files = {path: path.open('rb') for path in {path for path, _ in places.values()}}
    try:
        for number, name in enumerate(sorted(places), 1):
            path, offset = places[name]
            files[path].seek(offset)
            yield number, json.loads(files[path].readline())
    finally:
        for file in files.values():
            file.close()


def _images(places: Places) -> Iterator[dict]:
    for number, record in _records(places):
        yield dict(id=number, **{key: record[key] for key in ('file_name', 'height', 'width')})


def _annotations(places: Places) -> Iterator[dict]:
    number = 0
    for image, record in _records(places):
        for entry in record['annotations']:
            number += 1
            yield dict(id=number, image_id=image, iscrowd=0, **entry)
