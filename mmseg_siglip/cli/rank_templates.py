"""Rank the prompt templates of a training-free model for each class, by images without labels.

What is written goes to the score step TemplateExperts. Images are those that the config tests on;
to take others, such as those of its training set, say so by --cfg-options.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg_siglip.cli.common import add_config, at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument(
        'checkpoint',
        nargs='?',
        metavar='CHECKPOINT',
        help="the encoder: a file, a folder, an open_clip name or a Hub id [the config's]",
    )
    parser.add_argument('--out', type=Path, required=True, metavar='JSON', help='file to write')
    parser.add_argument(
        '--num-samples', type=at_least(1), metavar='N', help='the first N images [all]'
    )


def kept(args: argparse.Namespace) -> str:
    return 'nothing is kept; the same command begins anew'


def run(args: argparse.Namespace) -> None:
    from mmseg_siglip.cli.jobs.rank_templates import rank

    rank(args)
