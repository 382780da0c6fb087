"""JSON files of a checkpoint: an object, or a sentence that says what is there instead."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmseg_siglip.io.regular_file import read_regular

MOST_LAYERS = 1000
MOST_LABELS = 100_000
MOST_TOKENS = 4_000_000
ELSEWHERE = ('quantization_config', 'transformers_weights', 'fusion_config')
"""Fields of a configuration by which transformers would read other files, or weights as something
else than what they are."""
LEFT_TO_THEIR_READER = ('tokenizer.json', 'vocab.json')
"""Large, and read by one library that refuses what is wrong."""


def read_object(path: str | Path) -> dict[str, Any]:
    """What a JSON file holds.

    Raises:
        ValueError: It is no JSON, or holds something else than an object.
    """
    try:
        found = json.loads(read_regular(path).decode('utf-8-sig'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path}: expected a JSON object, found no JSON ({error})') from error
    if not isinstance(found, dict):
        raise ValueError(f'{path}: expected a JSON object, found a {type(found).__name__}')
    return found


def check_folder(folder: str | Path) -> None:
    """Refuse a folder of which a JSON file holds no object: libraries pass over some that do not.

    Raises:
        ValueError: One does not.
    """
    for path in sorted(Path(folder).glob('*.json')):
        if path.name not in LEFT_TO_THEIR_READER:
            read_object(path)


def check_token_ids(folder: str | Path) -> None:
    """Refuse a tokenizer whose ids run far beyond those of any vocabulary.

    The library makes room for each number up to the largest: a minute of work for one id of 2**31.

    Raises:
        ValueError: An id does, or a file holds no object.
    """
    for path in (Path(folder, name) for name in LEFT_TO_THEIR_READER):
        if not path.is_file():
            continue
        fields = read_object(path)
        model, added = fields.get('model', fields), fields.get('added_tokens', [])
        words = model.get('vocab', model) if isinstance(model, dict) else ()
        ids = [*words.values()] if isinstance(words, dict) else []
        ids += [token.get('id') for token in added if isinstance(token, dict)]
        largest = max((value for value in ids if type(value) is int), default=0)
        if largest > MOST_TOKENS:
            raise ValueError(
                f'{path}: expected token ids of at most {MOST_TOKENS}, found {largest}'
            )


def check_model_fields(fields: dict[str, Any], where: object) -> dict[str, Any]:
    """The fields of a model's configuration, if they ask for nothing that no model is.

    transformers makes room for labels while it reads a configuration, and makes each layer before
    it looks at weights.

    Raises:
        ValueError: They do.
    """
    for name, value in _walk(fields):
        if name in ELSEWHERE and value is not None:
            raise ValueError(f'{where}: expected plain weights, found {name} in the configuration')
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f'{where}: expected {name} to be a finite number, found {value}')
        if type(value) is not int:
            continue
        most = MOST_LABELS if name == 'num_labels' else MOST_LAYERS if _counts(name) else value
        if value > most:
            raise ValueError(f'{where}: expected {name} of at most {most}, found {value}')
    return fields


def _counts(name: str) -> bool:
    """Whether a number of that name says how many parts a model has."""
    return any(part in name for part in ('layers', 'blocks', 'depth', 'num_experts', 'n_layer'))


def _walk(value: Any, name: str = '') -> Iterator[tuple[str, Any]]:
    """Each value below one with the name that it has there; items of a list have the list's."""
    yield name, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, name)
