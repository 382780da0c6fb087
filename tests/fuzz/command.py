"""The searches of one module of kinds, each module in a process that imports what it needs."""

from __future__ import annotations

import argparse
import sys
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
    'chats',
    'hub',
)


def kinds_of(module: str) -> list[Kind]:
    return import_module(f'fuzz.{module}').KINDS


def search_module(module: str, args: argparse.Namespace, folder: Path) -> list[Row]:
    """A row for each kind that is asked for; progress goes to stderr."""
    rows = []
    for kind in kinds_of(module):
        if args.kinds and not kind.name.startswith(tuple(args.kinds)):
            continue
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
