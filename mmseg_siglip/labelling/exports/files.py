"""A file for each image, or a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mmseg_siglip.io.failures import Failure
from mmseg_siglip.io.files import whole_file, write_atomically
from mmseg_siglip.io.outcomes import raise_others
from mmseg_siglip.labelling.tables import Tables

Files = Iterator[tuple[str, bytes]]
"""Relative paths and what belongs there."""


def write_files(files: Files, folder: Path) -> list[Failure]:
    """Write what is not there yet; what has no place there is a failure."""
    failures = []
    for name, data in files:
        target = folder / name
        try:
            if not (target.is_file() and target.read_bytes() == data):
                write_atomically(data, target)
        except OSError as error:
            raise_others(error)
            failures.append(Failure.of(target, error))
    return failures


def export_label_maps(tables: Tables, folder: Path) -> list[Failure]:
    """``labels/<name>.png``, as `Segmentation.save` writes it, and ``classes.txt``: the name of
    each value, a line each from 0."""
    write_atomically(''.join(f'{name}\n' for name in tables.classes), folder / 'classes.txt')
    files = ((f'{image.name}.png', image.rows[0]['png']) for image in tables.images())
    return write_files(files, folder / 'labels')


def export_masks(tables: Tables, folder: Path) -> list[Failure]:
    """``masks/<name>.<number of the phrase from 1>.png``, as `Referred.save` writes it, and
    ``phrases.txt``, a line each."""
    write_atomically(''.join(f'{phrase}\n' for phrase in tables.classes), folder / 'phrases.txt')
    files = (
        (f'{image.name}.{number}.png', row['png'])
        for image in tables.images()
        for number, row in enumerate(image.rows, 1)
    )
    return write_files(files, folder / 'masks')


def export_depth_maps(tables: Tables, folder: Path) -> list[Failure]:
    """``depth/<name>.png``, as `DepthMap.save` writes it."""
    files = ((f'{image.name}.png', image.rows[0]['png']) for image in tables.images())
    return write_files(files, folder / 'depth')


def export_answers(tables: Tables, folder: Path) -> list[Failure]:
    """``answers.jsonl``: ``name``, ``question``, ``answer`` and ``complete``, a line an image."""
    kept = ('name', 'question', 'answer', 'complete')
    with (
        whole_file(folder / 'answers.jsonl') as draft,
        draft.open('w', encoding='utf-8') as file,
    ):
        for image in tables.images():
            line = {key: image.rows[0][key] for key in kept}
            file.write(json.dumps(line, ensure_ascii=False) + '\n')
    return []
