"""Forms of what was labelled: a name, a file and a function each.

An export is called with the `Tables` of a run and the folder to fill, and returns what it could not
write, image by image; see ``docs/adding/exporter.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmseg_siglip.lazy import resolve

if TYPE_CHECKING:
    from mmseg_siglip.io.failures import Failure
    from mmseg_siglip.labelling.tables import Tables

    Export = Callable[[Tables, Path], Sequence[Failure]]

NOTHING = 'parquet'
"""The tables alone."""

_MASKS = {
    'coco': 'mmseg_siglip.labelling.exports.coco:coco',
    'coco-polygons': 'mmseg_siglip.labelling.exports.coco:coco_polygons',
    'yolo': 'mmseg_siglip.labelling.exports.yolo:yolo',
}
_FILES = 'mmseg_siglip.labelling.exports.files'
_STATISTICS = 'mmseg_siglip.labelling.exports.statistics'

EXPORTS: dict[str, dict[str, Export | str]] = {
    'segment': {'png': f'{_FILES}:export_label_maps', **_MASKS},
    'refer': {'png': f'{_FILES}:export_masks', **_MASKS},
    'depth': {'png': f'{_FILES}:export_depth_maps'},
    'ask': {'jsonl': f'{_FILES}:export_answers'},
    'patch-stats': {'npz': f'{_STATISTICS}:npz', 'safetensors': f'{_STATISTICS}:safetensors'},
}
"""Task to name to export, or to where it is; the first of each is the usual one."""


def check_export(task: str, name: str | None) -> str:
    """The name of an export of this task, of the usual one without.

    Raises:
        ValueError: There is no such export.
    """
    known = EXPORTS[task]
    if name is not None and name != NOTHING and name not in known:
        raise ValueError(
            f'--format: expected one of {", ".join([*known, NOTHING])} of {task}, found {name!r}'
        )
    return name or next(iter(known))


def export_of(task: str, name: str) -> Export:
    """An export by its name."""
    found = EXPORTS[task][name]
    return resolve(found) if isinstance(found, str) else found
