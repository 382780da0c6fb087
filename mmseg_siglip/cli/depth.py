"""Predict the depth of photographs; write maps, pictures and JSON.

By a published model (--model) or one that was trained here (--config).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmseg_siglip.cli.common import (
    UsageError,
    add_depth_scale,
    add_device,
    add_images,
    add_out,
    add_published_depth,
    add_trained,
    at_least,
)
from mmseg_siglip.cli.photographs import answer, answers_so_far
from mmseg_siglip.cli.video import add_video, depth_of_frames, paint_depth, paint_video, video_of
from mmseg_siglip.io.files import write_image

if TYPE_CHECKING:
    from mmseg_siglip.api import DepthMap, DepthPredictor
    from mmseg_siglip.cli.video import Ask

OPTIONS = ('release', 'max_depth', 'predicts')


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
    parser.add_argument(
        '--normals', action='store_true', help='surface normals as well, of a model that has them'
    )
    published = parser.add_argument_group('published models')
    add_published_depth(published)
    published.add_argument(
        '--release',
        metavar='NAME',
        help='what a .pth of Depth Anything was called when it was published, if it is renamed',
    )
    published.add_argument(
        '--max-depth',
        type=at_least(1),
        metavar='METRES',
        help='range of a .pth of a metric Depth Anything, if it is not that of its release',
    )
    published.add_argument(
        '--predicts', choices=('depth', 'inverse'), help='what a DPT gives, if it is not as usual'
    )
    add_trained(
        parser.add_argument_group('models trained here'), of='of configs/dpt', required=False
    )
    add_device(parser)
    add_video(parser, labels='depth maps')


def kept(args: argparse.Namespace) -> str:
    return answers_so_far(args)


def check_model(args: argparse.Namespace) -> None:
    """Raises: UsageError: Arguments contradict each other."""
    if (args.model is None) == (args.config is None):
        raise UsageError('expected one of --model and --config')
    if args.checkpoint and not args.config:
        raise UsageError('--checkpoint needs --config')
    for name in OPTIONS:
        if getattr(args, name) is not None and args.model is None:
            raise UsageError(f'--{name.replace("_", "-")} needs --model')


def build_predictor(args: argparse.Namespace) -> DepthPredictor:
    from mmseg_siglip.api import DepthPredictor

    common = dict(device=args.device, precision=args.precision)
    if args.model is None:
        return DepthPredictor.from_config(args.config, args.checkpoint, **common)
    options = {name: getattr(args, name) for name in OPTIONS}
    return DepthPredictor.from_pretrained(args.model, **common, **options)


def run(args: argparse.Namespace) -> None:
    check_model(args)
    video = video_of(args)

    def save(result: DepthMap, path: Path) -> None:
        result.save(path.with_suffix(f'.{args.format}'), scale=args.depth_scale)
        if result.normals is not None:
            stem = path.name.removesuffix(result.suffix)
            result.normals.save(path.with_name(f'{stem}normals.{args.format}'))
            write_image(result.normals.plot(), path.with_name(f'{stem}normals.picture.png'))

    if video is not None:
        if args.normals:
            raise UsageError('--normals: expected images, found a video')

        def ask() -> Ask:
            return depth_of_frames(build_predictor(args), smooth=args.smooth)

        return paint_video(args, video, ask, paint_depth, save)
    answer(
        args,
        lambda: build_predictor(args),
        done='measured',
        options=lambda paths: dict(normals=args.normals),
        save=save,
    )
