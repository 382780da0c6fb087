"""The settings that a folder is filled by, over as many runs as it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from textwrap import shorten
from typing import Any

MANIFEST = 'manifest.json'


def digest_of(settings: Mapping[str, Any]) -> str:
    """Hexadecimal SHA-256 of plain settings."""
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def manifest_of(settings: Mapping[str, Any]) -> str:
    """The text of a manifest."""
    return json.dumps(dict(digest=digest_of(settings), settings=settings), indent=1) + '\n'


def read_manifest(text: str | bytes, place: str) -> dict[str, Any]:
    """The settings in a manifest.

    Raises:
        ValueError: It is none.
    """
    try:
        return dict(json.loads(text)['settings'])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f'{place} is not the manifest of such a folder') from None


def refuse_strange(folder: str, names: list[str]) -> None:
    """Raises: ValueError: Something else is in a folder without a manifest."""
    others = sorted(name for name in names if not name.startswith('.'))
    if others:
        raise ValueError(
            f'{folder}: expected an empty folder or one with {MANIFEST}, found {others[0]}'
        )


def refuse_other_settings(
    folder: str, found: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Raises: ValueError: A folder was filled by other settings."""
    names = [name for name in {**found, **settings} if found.get(name) != settings.get(name)]
    if names:
        changes = [f'{n} {_brief(found.get(n))}, now {_brief(settings.get(n))}' for n in names]
        raise ValueError(
            f'{folder} was filled with other settings ({"; ".join(changes)}): choose another folder'
        )


def _brief(value: Any) -> str:
    text = ', '.join(map(str, value)) if isinstance(value, list) else str(value)
    return shorten(text, 50, placeholder=' ...') if ' ' in text else text[:50]
