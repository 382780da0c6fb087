"""Sum up depth under each patch of a vision-language model.

Started again on the same folder, it goes on where it was.
"""

from __future__ import annotations

import argparse

from mmseg_siglip.cli.common import (
    OneOf,
    UsageError,
    add_depth_scale,
    add_published_depth,
    add_trained,
)
from mmseg_siglip.cli.label import add_shards, check_shards


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shards(parser, images='depth maps', batch_size=1, formats='npz or safetensors [npz]')
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
    parser.set_defaults(format='npz')
    add_published_depth(parser)
    add_trained(parser, of='by which depth is predicted: IMAGES are photographs', required=False)
    parser.add_argument('--device', help='such as cuda:0 or cpu [a GPU, if there is one]')


def kept(args: argparse.Namespace) -> str:
    return f'what is summed up is in {args.out}; the same command goes on from there'


def run(args: argparse.Namespace) -> None:
    if args.checkpoint and not args.config:
        raise UsageError('--checkpoint needs --config')
    if args.model and args.config:
        raise UsageError('--model and --config exclude each other')
    check_shards(args, 'patch-stats')
    from mmseg_siglip.cli.jobs.shards import label_shards
    from mmseg_siglip.labelling.labeller import LazyRecipe
    from mmseg_siglip.patch_stats.statistics import NAMES

    args.stats = list(args.stats or NAMES)
    place = 'mmseg_siglip.cli.jobs.patch_stats:build_statistics_labeller'
    label_shards(args, 'patch-stats', LazyRecipe(place, (args,)), 'summed up')
