"""Follow one image through a CAT-Seg.

Prints a line for every stage, from the file to the loss and the label map: what it is, its shape,
its type and the range of its values.
"""

from __future__ import annotations

import argparse

from mmseg_siglip.cli.common import add_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument(
        '--split', choices=('train', 'val', 'test'), help='whose data [the first that there is]'
    )
    parser.add_argument('--index', type=int, default=0, help='number of the sample [%(default)s]')


def kept(args: argparse.Namespace) -> str:
    return 'nothing is kept; the same command begins anew'


def run(args: argparse.Namespace) -> None:
    from mmseg_siglip.cli.jobs.trace import trace

    trace(args)
