"""Train the model of a config."""

from __future__ import annotations

import argparse
import sys

from mmseg_siglip.cli.common import add_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or from the newest whole one in the work folder',
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')


def kept(args: argparse.Namespace) -> str:
    job = sys.modules.get('mmseg_siglip.cli.jobs.train')
    newest = job and job.newest_saved(args)
    if newest is None:
        return 'no checkpoint was saved yet; the same command begins anew'
    return f'{newest} is kept; the same command goes on from there with --resume'


def run(args: argparse.Namespace) -> None:
    from mmseg_siglip.cli.jobs.train import train

    train(args)
