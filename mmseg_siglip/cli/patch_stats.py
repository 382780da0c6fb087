"""Sum up depth under each patch of a vision-language model.

Started again on the same folder, it goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg_siglip.cli.common import (
    OneOf,
    UsageError,
    add_depth_scale,
    add_published_depth,
    add_trained,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('inputs', nargs='+', metavar='FILES', help='depth maps, or folders of them')
    parser.add_argument('--out', type=Path, required=True, help='folder to fill')
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument('--patch-size', type=int, metavar='PIXELS')
    where.add_argument('--grid', type=int, nargs=2, metavar=('ROWS', 'COLUMNS'))
    parser.add_argument(
        '--space',
        type=OneOf('mmseg_siglip.patch_stats.statistics:SPACES', 'depth'),
        default='depth',
        metavar='NAME',
        help='depth, inverse or log [%(default)s]',
    )
    parser.add_argument(
        '--stats',
        nargs='+',
        type=OneOf('mmseg_siglip.patch_stats.statistics:NAMES'),
        metavar='NAME',
        help='such as mean, std, min, max [all]',
    )
    add_depth_scale(parser)
    parser.add_argument(
        '--invalid', type=float, nargs='*', default=(), help='values of the files besides 0'
    )
    parser.add_argument(
        '--format',
        type=OneOf('mmseg_siglip.patch_stats.export:FORMATS', 'npz'),
        default='npz',
        metavar='NAME',
        help='npz or safetensors [%(default)s]',
    )
    add_published_depth(parser)
    add_trained(parser, of='by which depth is predicted: FILES are photographs', required=False)


def kept(args: argparse.Namespace) -> str:
    return f'what is summed up is in {args.out}; the same command goes on from there'


def run(args: argparse.Namespace) -> None:
    if args.checkpoint and not args.config:
        raise UsageError('--checkpoint needs --config')
    if args.model and args.config:
        raise UsageError('--model and --config exclude each other')
    from mmseg_siglip.cli.jobs.patch_stats import export

    export(args)
