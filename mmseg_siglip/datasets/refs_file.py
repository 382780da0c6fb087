"""The expressions of RefCOCO's family: ``refs(unc).p``, or the same as JSON.

A pickle is a program. This one is read by an interpreter that has lists, dicts, tuples, numbers and
strings, and nothing that could be called.
"""

from __future__ import annotations

import io
import json
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

from mmseg_siglip.weights.claims import check_pickle

CONTAINERS = {
    ('builtins', 'set'): set,
    ('builtins', 'frozenset'): frozenset,
    ('collections', 'OrderedDict'): OrderedDict,
}
PYTHON_2 = {'__builtin__': 'builtins'}
FIELDS = ('image_id', 'split', 'sentences', 'ann_id')


class PlainUnpickler(pickle.Unpickler):
    """Refuses every name but those of plain containers."""

    def find_class(self, module: str, name: str) -> Any:
        module = PYTHON_2.get(module, module)
        if (module, name) in CONTAINERS:
            return CONTAINERS[module, name]
        raise _Refused(f'{module}.{name}')

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused('a persistent object')


class _Refused(Exception):
    """The name of what a pickle asked for."""


def load_plain_pickle(path: str | Path) -> Any:
    """Read a pickle of plain containers; Python 2's, too.

    Raises:
        ValueError: The file cannot be read, is damaged, or needs code to be read.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {error.strerror}') from None
    try:
        check_pickle(data)
        return PlainUnpickler(io.BytesIO(data), encoding='utf-8').load()
    except _Refused as error:
        raise ValueError(
            f'{path} is refused: to read it would run code from the file, namely {error}; '
            'expected lists, dicts, numbers and strings only'
        ) from None
    except Exception as error:  # the interpreter raises nearly every built-in type on bad bytes
        raise ValueError(f'{path} is damaged or not a pickle: {error}') from None


def load_json(path: str | Path) -> Any:
    """Read JSON.

    Raises:
        ValueError: The file cannot be read or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding='utf-8-sig'))
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {error.strerror}') from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is not JSON: {error}') from None


def load_refs(path: str | Path) -> list[dict]:
    """References: each with ``image_id``, ``split``, ``sentences`` and ``ann_id``.

    Raises:
        ValueError: The file is damaged, needs code to be read, or lacks a field.
    """
    refs = load_json(path) if Path(path).suffix == '.json' else load_plain_pickle(path)
    if not isinstance(refs, list) or not refs:
        raise ValueError(f'{path}: expected a list of references, found {type(refs).__name__}')
    for number, ref in enumerate(refs):
        missing = [f for f in FIELDS if not isinstance(ref, dict) or f not in ref]
        if missing:
            raise ValueError(f'{path}: reference {number} lacks {", ".join(missing)}')
        ids = ref['ann_id'] if isinstance(ref['ann_id'], list) else [ref['ann_id']]
        plain = all(isinstance(value, (int, str)) for value in (ref['image_id'], *ids))
        sentences = ref['sentences']
        if not plain or not isinstance(sentences, list) or not all(map(_is_object, sentences)):
            raise ValueError(
                f'{path}: reference {number}: expected image_id and ann_id as numbers and '
                f'sentences as a list of objects, found {str(ref)[:200]}'
            )
    return refs


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)
