"""Commands in this process."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from mmseg_siglip.cli.main import main, parser_of


def command(name: str) -> Callable[[Sequence], int]:
    """A function from the arguments of ``mmseg-siglip NAME`` to its exit status."""
    return lambda argv: main([name, *map(str, argv)])


def parse(name: str, argv: Sequence) -> argparse.Namespace:
    """The arguments of ``mmseg-siglip NAME`` as its job gets them."""
    return parser_of(name)[0].parse_args([str(word) for word in argv])
