"""Measure a published figure again, and compare.

The data are checked (files, number, values of labels) and the weights, the published settings are
used, and one line says what was measured and what was published; a JSON file keeps all of it. Exit
status 0 where the figure is reproduced. `mmseg-siglip reproduce coco_stuff --root DATA` is SCLIP on
OpenAI's ViT-B/16; `--list` names everything that has a published figure.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg_siglip.cli.common import UsageError, add_launcher


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('name', nargs='?', metavar='NAME', help='of --list')
    parser.add_argument('--list', action='store_true', help='name all rows, and end')
    parser.add_argument('--method', metavar='NAME', help='a training-free method [csa]')
    parser.add_argument('--encoder', metavar='NAME', help='where several have a figure')
    parser.add_argument(
        '--weights', metavar='WEIGHTS', help="a trained model, or the encoder [the config's]"
    )
    parser.add_argument('--root', type=Path, metavar='DATA', help="data_root [the config's]")
    parser.add_argument(
        '--tolerance', type=float, default=0.3, metavar='POINTS', help='of a score in percent [0.3]'
    )
    parser.add_argument(
        '--incomplete', action='store_true', help='evaluate a part of the split, as not comparable'
    )
    parser.add_argument('--out', type=Path, metavar='JSON', help='file to write [in --work-dir]')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/reproduce'))
    add_launcher(parser)


def kept(args: argparse.Namespace) -> str:
    return 'nothing is kept; the same command begins anew'


def run(args: argparse.Namespace) -> None:
    if args.list == (args.name is not None):
        raise UsageError('expected a NAME, or --list')
    if not args.tolerance >= 0:
        raise UsageError(f'--tolerance: expected a number of at least 0, found {args.tolerance}')
    from mmseg_siglip.cli.jobs.reproduce import reproduce

    reproduce(args)
