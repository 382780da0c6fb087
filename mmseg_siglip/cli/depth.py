"""Predict the depth of photographs; write maps, pictures and JSON."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmseg_siglip.cli.common import (
    add_depth_scale,
    add_device,
    add_images,
    add_out,
    add_trained,
)
from mmseg_siglip.cli.photographs import answer, answers_so_far

if TYPE_CHECKING:
    from mmseg_siglip.api import DepthMap


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_images(parser)
    add_out(parser, 'depths')
    parser.add_argument(
        '--format',
        choices=('png', 'npy'),
        default='png',
        help='16-bit PNG, or float32 as it is [%(default)s]',
    )
    add_depth_scale(parser)
    add_trained(parser, of='of configs/dpt')
    add_device(parser)


def kept(args: argparse.Namespace) -> str:
    return answers_so_far(args)


def run(args: argparse.Namespace) -> None:
    from mmseg_siglip.api import DepthPredictor

    def save(result: DepthMap, path: Path) -> None:
        result.save(path.with_suffix(f'.{args.format}'), scale=args.depth_scale)

    answer(
        args,
        lambda: DepthPredictor.from_config(
            args.config, args.checkpoint, device=args.device, precision=args.precision
        ),
        done='measured',
        save=save,
    )
