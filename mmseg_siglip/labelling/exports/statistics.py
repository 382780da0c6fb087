"""Patch statistics, and what they are on average."""

from __future__ import annotations

import json
from pathlib import Path

from mmseg_siglip.io.failures import Failure
from mmseg_siglip.io.files import write_atomically
from mmseg_siglip.labelling.exports.files import Files, write_files
from mmseg_siglip.labelling.tables import Tables
from mmseg_siglip.patch_stats.export import FORMATS, Moments
from mmseg_siglip.patch_stats.statistics import SPACES

SUMMARY = 'summary.json'


def npz(tables: Tables, folder: Path) -> list[Failure]:
    """See `write_statistics`."""
    return write_statistics(tables, folder, 'npz')


def safetensors(tables: Tables, folder: Path) -> list[Failure]:
    """See `write_statistics`."""
    return write_statistics(tables, folder, 'safetensors')


def write_statistics(tables: Tables, folder: Path, suffix: str) -> list[Failure]:
    """``<name>.npz`` or ``<name>.safetensors``, see `mmseg_siglip.patch_stats.export`, and
    ``summary.json``: mean and standard deviation, for `PatchStatisticsFusion`.

    Raises:
        ValueError: No file has depth anywhere, or the tables hold the other form.
    """
    settings = tables.settings
    names, space, held = settings['stats'], settings['space'], settings['format']
    if suffix != held:
        raise ValueError(f'--format: expected {held}, as it was summed up, found {suffix}')
    _, decode = FORMATS[suffix]
    moments, count = Moments(len(names)), 0

    def files() -> Files:
        nonlocal count
        for image in tables.images():
            data = image.rows[0]['statistics']
            moments.add(decode(data))
            count += 1
            yield f'{image.name}.{suffix}', data

    failures = write_files(files(), folder)
    if count and not moments.number.all():
        raise ValueError(
            f'{folder}: expected depth in some patch, found none in any file; what unknown depth '
            'is, --invalid says'
        )
    about = dict(names=names, space=space, unit=SPACES[space], files=count)
    if count:
        text = json.dumps(about | moments.summary(), indent=1)
        write_atomically(f'{text}\n', folder / SUMMARY)
    print(f'{count} files of statistics and {SUMMARY} in {folder}')
    return failures
