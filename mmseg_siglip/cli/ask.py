"""Ask a LLaVA model about photographs.

The answer about one is printed as it comes; those about several, a line each after its path and a
tab.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmseg_siglip.cli.common import (
    OneOf,
    UsageError,
    add_depth_scale,
    add_device,
    add_images,
    add_published_depth,
    at_least,
)
from mmseg_siglip.cli.image_arguments import ImageAt, images_of, place_of
from mmseg_siglip.cli.photographs import answer, answers_so_far
from mmseg_siglip.io.failures import Failure
from mmseg_siglip.io.regular_file import read_regular

if TYPE_CHECKING:
    import numpy as np

    from mmseg_siglip.api import Answer, VisionChat


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('model', help='a LLaVA checkpoint, or a language model with --vision')
    add_images(parser)
    parser.add_argument('question')
    parser.add_argument('--out', type=Path, help='folder for answers, pictures and JSON as well')
    parser.add_argument(
        '--vision',
        help='SigLIP or CLIP to put on a language model; or that of an original LLaVA',
    )
    parser.add_argument('--projector', help='file of the projector alone for --vision')
    parser.add_argument(
        '--encoder-type',
        type=OneOf('mmseg_siglip.vlm.build:ENCODER_TYPES', 'auto'),
        default='auto',
        metavar='NAME',
        help='what the vision tower is expected to be: siglip, siglip2, clip, or auto [auto]',
    )
    parser.add_argument(
        '--image-size', type=int, nargs='+', metavar='PIXELS', help='a side, or height and width'
    )
    parser.add_argument('--max-new-tokens', type=at_least(1), default=256, help='[%(default)s]')
    parser.add_argument('--batch-size', type=at_least(1), default=8, help='[%(default)s]')
    add_device(parser)
    depth = parser.add_argument_group('depth, for models that fuse it')
    depth.add_argument(
        '--depth',
        type=Path,
        help="map, or folder of maps with the images' names, in the same subfolders or in none",
    )
    add_depth_scale(depth)
    add_published_depth(depth, '--depth-model')
    depth.add_argument('--depth-config', help='predict depth with this config instead')
    depth.add_argument('--depth-checkpoint', help='weights of --depth-config')


def check(args: argparse.Namespace) -> None:
    """Raises: UsageError: Arguments contradict each other."""
    if args.image_size and len(args.image_size) > 2:
        raise UsageError(f'--image-size: expected one or two numbers, found {len(args.image_size)}')
    if args.projector and not args.vision:
        raise UsageError('--projector needs --vision')
    senses = ('depth', 'depth_model', 'depth_config')
    given = [f'--{name.replace("_", "-")}' for name in senses if getattr(args, name)]
    if len(given) > 1:
        raise UsageError(f'{" and ".join(given)} exclude each other')


def build_chat(args: argparse.Namespace) -> VisionChat:
    from mmseg_siglip.api import VisionChat

    config = dict(model_name_or_path=args.model)
    if args.vision:
        config['mm_vision_tower'] = args.vision
    if args.projector:
        config['pretrain_mm_mlp_adapter'] = args.projector
    custom = None
    if args.image_size:
        size = args.image_size
        custom = dict(image_size=size[0] if len(size) == 1 else tuple(size))
    return VisionChat.from_pretrained(
        config,
        device=args.device,
        precision=args.precision,
        encoder_type=args.encoder_type,
        custom_vision_config=custom,
    )


def depth_reader(args: argparse.Namespace) -> Callable[[ImageAt], np.ndarray] | None:
    """A function from an image's place to its depth (H, W), metres; None without depth."""
    if args.depth_config or args.depth_model:
        from mmseg_siglip.api.depth import metric_depth

        trained = args.depth_config, args.depth_checkpoint
        return metric_depth(*trained, published=args.depth_model, device=args.device)
    if args.depth is None:
        return None

    import numpy as np

    from mmseg_siglip.io.image import decode_depth

    maps = depth_maps(args.depth, args.images) if args.depth.is_dir() else {}

    def read(path: ImageAt) -> np.ndarray:
        file = maps.get(path, args.depth)
        try:
            data = read_regular(file)
        except FileNotFoundError:
            raise ValueError(f'{file}: no such depth map') from None
        except (OSError, ValueError) as error:
            raise ValueError(str(Failure.of(file, error))) from None
        depth = decode_depth(data, str(file), per_metre=args.depth_scale)
        return depth.astype(np.float64) / args.depth_scale

    return read


def depth_maps(folder: Path, arguments: Sequence[str | Path]) -> dict[ImageAt, Path]:
    """Image to map: the one at the same place below `folder` as the image below its argument, or
    the one of the image's name in `folder` itself.

    Raises:
        ValueError: An argument is not there, or two images have one map.
    """
    places: dict[ImageAt, list[Path]] = {}
    for argument, found in images_of(arguments).items():
        for image in found.images:
            inside = place_of(argument, image).with_suffix('.png')
            places.setdefault(image, []).append(folder / inside)
    maps, owners = {}, {}
    for image, files in places.items():
        files.append(folder / f'{files[0].stem}.png')
        maps[image] = file = next((file for file in files if file.is_file()), files[0])
        other = owners.setdefault(file, image)
        if other != image and file.is_file():
            raise ValueError(
                f'{file}: expected the depth map of one image, found {other} and {image}'
            )
    return maps


def kept(args: argparse.Namespace) -> str:
    return answers_so_far(args)


def run(args: argparse.Namespace) -> None:
    check(args)
    images = {image for found in images_of(args.images).values() for image in found.images}
    if len(images) > 1 and args.depth and not args.depth.is_dir():
        raise ValueError(f'--depth: expected a folder for {len(images)} images, found {args.depth}')
    read_depth = depth_reader(args)

    def options(paths: Sequence[ImageAt]) -> dict[str, Any]:
        depths = [read_depth(path) for path in paths] if read_depth else None
        stream = write if len(images) == 1 else None
        return dict(depths=depths, on_text=stream, max_new_tokens=args.max_new_tokens)

    def tell(path: ImageAt, found: Answer) -> None:
        write('\n' if len(images) == 1 else f'{path}\t{" ".join(found.split())}\n')
        if not found.complete:
            cut.append(path)

    cut: list[ImageAt] = []
    try:
        answer(
            args,
            lambda: build_chat(args),
            args.question,
            done='answered',
            batch_size=args.batch_size,
            options=options,
            tell=tell,
        )
    finally:
        if cut:
            limit = f'--max-new-tokens {args.max_new_tokens}'
            print(f'answers cut at {limit}: {len(cut)}, first that to {cut[0]}', file=sys.stderr)


def write(text: str) -> None:
    print(text, end='', flush=True)
