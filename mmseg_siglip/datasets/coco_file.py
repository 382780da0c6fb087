"""COCO's JSON: images and annotations, with all that their reader asks for, or a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmseg_siglip.datasets.refs_file import load_json

Fields = Mapping[str, Sequence[str]]
_ID = ((int, str), 'a number or text')
_NAME = ((str,), 'text')
KINDS = MappingProxyType(
    dict(
        id=_ID,
        image_id=_ID,
        category_id=_ID,
        file_name=_NAME,
        name=_NAME,
        iscrowd=((int, bool), '0 or 1'),
    )
)
"""Fields by which entries are found, and the types that they may have."""


def read_coco(path: str | Path, fields: Fields) -> dict[str, dict[Any, dict]]:
    """The lists of a file, each as entries by their ``id``, in the order of the file.

    Args:
        path: Of the file.
        fields: Names of the lists, each with what its entries have to have beside ``id``.

    Raises:
        ValueError: A list or a field is not there, an id is no id or a name no name (`KINDS`), or
            two entries of a list have one ``id``.
    """
    found = load_json(path)
    lacking = [name for name in fields if not isinstance(found, dict) or name not in found]
    if lacking:
        raise ValueError(
            f'{path}: expected {" and ".join(fields)} of COCO, found no {" and no ".join(lacking)}'
        )
    return {name: _by_id(found[name], name, wanted, path) for name, wanted in fields.items()}


def _by_id(entries: Any, name: str, wanted: Sequence[str], path: str | Path) -> dict[Any, dict]:
    if not isinstance(entries, list):
        raise ValueError(f'{path}: expected a list of {name}, found {type(entries).__name__}')
    found: dict[Any, dict] = {}
    for number, entry in enumerate(entries):
        lacks = [f for f in ('id', *wanted) if not isinstance(entry, dict) or f not in entry]
        if lacks:
            raise ValueError(
                f'{path}: {name}[{number}]: expected an object with id, {", ".join(wanted)}; '
                f'it lacks {", ".join(lacks)}'
            )
        for field in KINDS.keys() & {'id', *wanted}:
            kinds, words = KINDS[field]
            if type(entry[field]) not in kinds:
                raise ValueError(
                    f'{path}: {name}[{number}]: expected {field} to be {words}, found '
                    f'{str(entry[field])[:100]}'
                )
        if found.setdefault(entry['id'], entry) != entry:
            raise ValueError(f'{path}: two different {name} have the id {entry["id"]}')
    if len({type(key) for key in found}) > 1:
        raise ValueError(f'{path}: expected the ids of {name} to be all numbers or all text')
    return found
