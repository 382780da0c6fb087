"""Find what phrases mean in photographs; write masks, pictures and JSON."""

from __future__ import annotations

import argparse

from mmseg_siglip.cli.common import add_device, add_images, add_out, add_trained
from mmseg_siglip.cli.photographs import answer, answers_so_far


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_images(parser)
    parser.add_argument('phrases', help='a phrase such as "the red cup", or several between ";"')
    add_out(parser, 'referred')
    add_trained(parser, of='of configs/refer_sam')
    add_device(parser)


def kept(args: argparse.Namespace) -> str:
    return answers_so_far(args)


def run(args: argparse.Namespace) -> None:
    from mmseg_siglip.api import ReferringSegmenter

    phrases = [phrase.strip() for phrase in args.phrases.split(';')]
    answer(
        args,
        lambda: ReferringSegmenter.from_config(
            args.config, args.checkpoint, device=args.device, precision=args.precision
        ),
        phrases if len(phrases) > 1 else phrases[0],
        done='searched',
    )
