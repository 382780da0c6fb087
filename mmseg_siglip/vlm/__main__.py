"""Ask about pictures: ``python -m mmseg_siglip.vlm MODEL photo.jpg "What is nearest?"``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mmseg_siglip.api.depth import load_depth_model, predict_depth
from mmseg_siglip.api.segment import read_image
from mmseg_siglip.cli.common import run
from mmseg_siglip.io.image import decode_depth
from mmseg_siglip.io.image_source import find_images
from mmseg_siglip.precision import PRECISIONS
from mmseg_siglip.vlm.build import ENCODER_TYPES
from mmseg_siglip.vlm.chat import VisionChat
from mmseg_siglip.vlm.loader import load_pretrained_model


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m mmseg_siglip.vlm',
        description='Ask a LLaVA model about pictures. The answer about one picture is printed as '
        'it comes; those about several, a line each after its path and a tab.',
    )
    parser.add_argument('model', help='a LLaVA checkpoint, or a language model with --vision')
    parser.add_argument('images', nargs='+', type=Path, help='images, or folders of images')
    parser.add_argument('question')
    parser.add_argument('--vision', help='SigLIP or CLIP to put on a language model')
    parser.add_argument('--projector', help='file or checkpoint with the projector for --vision')
    parser.add_argument('--encoder-type', choices=ENCODER_TYPES, default='auto')
    parser.add_argument(
        '--image-size', type=int, nargs='+', metavar='PIXELS', help='a side, or height and width'
    )
    parser.add_argument('--max-new-tokens', type=int, default=256, help='[%(default)s]')
    parser.add_argument('--batch-size', type=int, default=8, help='[%(default)s]')
    parser.add_argument('--precision', choices=PRECISIONS, default='auto', help='[%(default)s]')
    parser.add_argument('--device', help='such as cuda:0 or cpu')
    depth = parser.add_argument_group('depth, for models that fuse it')
    depth.add_argument(
        '--depth',
        type=Path,
        help="map, or folder of maps with the images' names, in the same subfolders or in none",
    )
    depth.add_argument('--depth-scale', type=float, default=1000.0, help='units per metre [1000]')
    depth.add_argument('--depth-config', help='predict depth with this config instead')
    depth.add_argument('--depth-checkpoint', help='weights of --depth-config')
    args = parser.parse_args(argv)
    if args.image_size and len(args.image_size) > 2:
        parser.error(f'--image-size: expected one or two numbers, found {len(args.image_size)}')
    for name in ('max_new_tokens', 'batch_size', 'depth_scale'):
        if getattr(args, name) <= 0:
            parser.error(f'--{name.replace("_", "-")}: expected a positive number')
    if args.projector and not args.vision:
        parser.error('--projector needs --vision')
    if args.depth and args.depth_config:
        parser.error('--depth and --depth-config exclude each other')
    return args


def load_chat(args: argparse.Namespace) -> VisionChat:
    config = dict(model_name_or_path=args.model)
    if args.vision:
        config['mm_vision_tower'] = args.vision
    if args.projector:
        config['pretrain_mm_mlp_adapter'] = args.projector
    custom = None
    if args.image_size:
        size = args.image_size
        custom = dict(image_size=size[0] if len(size) == 1 else tuple(size))
    vlm = load_pretrained_model(
        config, args.encoder_type, custom, precision=args.precision, device=args.device
    )
    return VisionChat(vlm)


def depth_reader(args: argparse.Namespace) -> Callable[[Path], np.ndarray] | None:
    """A function from an image's path to its depth (H, W), metres; None without depth."""
    if args.depth_config:
        model = load_depth_model(args.depth_config, args.depth_checkpoint, device=args.device)
        if model.decode_head.predicts != 'depth':
            raise ValueError(f'{args.depth_config}: expected a model of metric depth')
        return lambda path: predict_depth(model, path)
    if args.depth is None:
        return None

    maps = depth_maps(args.depth, args.images) if args.depth.is_dir() else {}

    def read(path: Path) -> np.ndarray:
        file = maps.get(path, args.depth)
        if not file.is_file():
            raise ValueError(f'{file}: no such depth map')
        return decode_depth(file.read_bytes(), str(file)).astype(np.float64) / args.depth_scale

    return read


def depth_maps(folder: Path, arguments: Sequence[Path]) -> dict[Path, Path]:
    """Image to map: the one at the same place below `folder` as the image below its argument, or
    the one of the image's name in `folder` itself.

    Raises:
        ValueError: An argument is not there, or two images have one map.
    """
    places: dict[Path, list[Path]] = {}
    for argument in arguments:
        for image in find_images(argument):
            inside = image.relative_to(argument) if argument.is_dir() else Path(image.name)
            places.setdefault(image, []).append(folder / inside.with_suffix('.png'))
    maps, owners = {}, {}
    for image, files in places.items():
        files.append(folder / f'{image.stem}.png')
        maps[image] = file = next((file for file in files if file.is_file()), files[0])
        other = owners.setdefault(file, image)
        if other != image and file.is_file():
            raise ValueError(
                f'{file}: expected the depth map of one image, found {other} and {image}'
            )
    return maps


def ask(argv: Sequence[str] | None) -> None:
    """Print the answers.

    Raises:
        ValueError: The arguments cannot be used, or some images could not be read (after all
            others were answered).
    """
    args = parse(argv)
    images = [image for path in args.images for image in find_images(path)]
    if len(images) > 1 and args.depth and not args.depth.is_dir():
        raise ValueError(f'--depth: expected a folder for {len(images)} images, found {args.depth}')
    read_depth, chat = depth_reader(args), load_chat(args)
    options = dict(max_new_tokens=args.max_new_tokens)
    if len(images) == 1:
        depth = read_depth(images[0]) if read_depth else None
        chat(images[0], args.question, depths=depth, on_text=write, **options)
        print()
        return
    broken: list[str] = []
    for start in range(0, len(images), args.batch_size):
        batch = []
        for path in images[start : start + args.batch_size]:
            try:
                batch.append((path, read_image(path), read_depth and read_depth(path)))
            except ValueError as error:
                broken.append(str(error))
        if not batch:
            continue
        paths, pixels, depths = zip(*batch, strict=True)
        answers = chat(pixels, args.question, depths=depths if read_depth else None, **options)
        for path, answer in zip(paths, answers, strict=True):
            print(f'{path}\t{" ".join(answer.split())}', flush=True)
    if broken:
        raise ValueError(f'{len(broken)} images could not be read: {"; ".join(broken)}')


def write(text: str) -> None:
    print(text, end='', flush=True)


if __name__ == '__main__':
    sys.exit(run(ask, None))
