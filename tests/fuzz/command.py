"""The searches of one module of kinds, each module in a process that imports what it needs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from fuzz.kind import Kind
from fuzz.report import faults, line
from fuzz.search import Row, search

MODULES = (
    'images',
    'archives',
    'words',
    'annotations',
    'options',
    'encoders',
    'folders',
    'systems',
    'chats',
    'hub',
)


def modules_of(words: Sequence[str] | None) -> list[str]:
    """Those that may hold what is asked for: all, unless modules themselves are."""
    named = [name for name in MODULES if name in (words or ())]
    return named if words and len(named) == len(words) else list(MODULES)


def kinds_of(module: str, words: Sequence[str] | None = None) -> list[Kind]:
    """Its kinds, or those of them whose names begin so."""
    kinds = import_module(f'fuzz.{module}').KINDS
    if not words or module in words:
        return kinds
    return [kind for kind in kinds if kind.name.startswith(tuple(words))]


def search_module(module: str, args: argparse.Namespace, folder: Path) -> list[Row]:
    """A row for each kind that is asked for; progress goes to stderr."""
    rows = []
    for kind in kinds_of(module, args.kinds):
        row = search(
            kind,
            folder,
            seed=args.seed,
            number=args.count,
            seconds=args.seconds,
            show=args.show,
        )
        print(
            line(row.kind, [row], row.memory), faults([row]), sep='\n', file=sys.stderr, flush=True
        )
        rows.append(row)
    return rows
