"""Find what phrases mean in photographs; write masks, pictures and JSON."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mmseg_siglip.cli.common import UsageError, add_device, add_images, add_out, add_trained
from mmseg_siglip.cli.photographs import answer, answers_so_far

if TYPE_CHECKING:
    from mmseg_siglip.api import ReferringSegmenter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_images(parser)
    parser.add_argument('phrases', help='a phrase such as "the red cup", or several between ";"')
    add_out(parser, 'referred')
    parser.add_argument('--model', metavar='SAVED', help='folder or Hub id of a saved system')
    add_trained(parser, of='of configs/refer_sam, in its place', required=False)
    add_device(parser)


def kept(args: argparse.Namespace) -> str:
    return answers_so_far(args)


def build_referrer(args: argparse.Namespace) -> ReferringSegmenter:
    from mmseg_siglip.api import ReferringSegmenter

    common = dict(device=args.device, precision=args.precision)
    if args.model is not None:
        return ReferringSegmenter.from_pretrained(args.model, **common)
    return ReferringSegmenter.from_config(args.config, args.checkpoint, **common)


def phrases_of(text: str) -> list[str]:
    return [phrase.strip() for phrase in text.split(';')]


def run(args: argparse.Namespace) -> None:
    if (args.model is None) == (args.config is None):
        raise UsageError('expected one of --model and --config')
    if args.checkpoint and not args.config:
        raise UsageError('--checkpoint needs --config')
    phrases = phrases_of(args.phrases)
    answer(
        args,
        lambda: build_referrer(args),
        phrases if len(phrases) > 1 else phrases[0],
        done='searched',
    )
