"""Evaluate a model on the test set of a config."""

from __future__ import annotations

import argparse

from mmseg_siglip.cli.common import PAMR_STEPS, PICTURES, UsageError, add_config, add_slides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument(
        'checkpoint',
        nargs='?',
        metavar='CHECKPOINT',
        help='weights: a file, a folder, an open_clip name or a Hub id; for a training-free model '
        "the encoder's, and may be left out",
    )
    parser.add_argument(
        '--out',
        help='folder to save the predicted label maps in, each by the stem of its image; where '
        'stems repeat, with the folders before it',
    )
    parser.add_argument(
        '--continue',
        dest='go_on',
        action='store_true',
        help='predict only what an earlier run with the same --out, settings and weights did not; '
        'the scores are those of all images',
    )
    parser.add_argument('--show', action='store_true', help='show each prediction in a window')
    parser.add_argument('--show-dir', help='folder to save painted predictions in')
    parser.add_argument(
        '--save-vis',
        dest='show_dir',
        nargs='?',
        const=PICTURES,
        metavar='DIR',
        help='the same as --show-dir [vis in the work folder]',
    )
    parser.add_argument(
        '--use-pamr',
        action=argparse.BooleanOptionalAction,
        help=f'refine scores by PAMR, {PAMR_STEPS} steps, or do not, whatever the config says',
    )
    add_slides(parser)
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that --show waits')
    parser.add_argument(
        '--classes',
        metavar='WORDS',
        help='look for these classes instead: a bundled vocabulary, a file, or "cat, dog, sky"; '
        "unless they are as many as the data's, without a score",
    )
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')


def kept(args: argparse.Namespace) -> str:
    saved = args.out or args.show_dir
    what = f'predictions so far are in {saved}, and no score' if saved else 'no score'
    return f'{what}; the same command begins anew'


def run(args: argparse.Namespace) -> None:
    if args.go_on and args.out is None:
        raise UsageError('--continue needs --out, the folder of what is predicted already')
    from mmseg_siglip.cli.jobs.test import test

    test(args)
