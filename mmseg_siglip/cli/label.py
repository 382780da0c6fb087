"""Label each pixel of many images with one of your words.

Started again on the same folder, it goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg_siglip.cli.common import OneOf, add_launcher, at_least
from mmseg_siglip.cli.segment import add_background, add_segmenter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'images',
        nargs='+',
        metavar='IMAGES',
        help='folders (searched through, links followed), images, text files with one path a line, '
        'or WebDataset shards such as shard-{000..003}.tar; an image has at most 100 million '
        'pixels and 1 GiB',
    )
    words = parser.add_mutually_exclusive_group(required=True)
    words.add_argument('--words', help='as of segment: words between commas, synonyms after |')
    words.add_argument('--vocabulary', help='name or file of a vocabulary (with synonyms)')
    parser.add_argument('--out', type=Path, required=True, help='folder to fill')
    parser.add_argument(
        '--format',
        type=OneOf('mmseg_siglip.io.label_store:STORES', 'png'),
        default='png',
        metavar='NAME',
        help='png, a label map an image; coco or coco-polygons, masks in one JSON; yolo, polygons '
        'in a text file an image [%(default)s]',
    )
    add_background(parser)
    add_segmenter(parser)
    parser.add_argument(
        '--batch-size', type=at_least(1), default=8, help='images at once [%(default)s]'
    )
    parser.add_argument(
        '--num-workers',
        type=at_least(0),
        default=2,
        help='processes that decode, for each [%(default)s]',
    )
    add_launcher(parser)


def kept(args: argparse.Namespace) -> str:
    return f'what is labelled is in {args.out}; the same command goes on from there'


def run(args: argparse.Namespace) -> None:
    from mmseg_siglip.cli.jobs.label import label_images

    label_images(args)
