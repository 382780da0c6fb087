"""Segment photographs by words: ``python -m mmseg_siglip photo.jpg "cat, dog" --out DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from mmseg_siglip.cli.common import (
    add_segmenter_arguments,
    build_segmenter,
    refuse_inside,
    run,
)
from mmseg_siglip.io.image_source import find_images
from mmseg_siglip.text.vocabulary import Vocabulary, split_words


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m mmseg_siglip', description='Label each pixel with one of your words.'
    )
    parser.add_argument('images', type=Path, help='an image, or a folder of images')
    parser.add_argument(
        'words', help='words between commas, or the name or file of a vocabulary (with synonyms)'
    )
    parser.add_argument('--out', type=Path, default=Path('segmented'), help='folder [%(default)s]')
    add_segmenter_arguments(parser)
    return parser.parse_args(argv)


def segment(argv: Sequence[str] | None) -> None:
    """Write ``NAME.labels.png`` and ``NAME.picture.png`` for each image into ``--out``.

    Raises:
        ValueError: The arguments cannot be used, or some images could not be read (after all
            others were done).
    """
    args = parse(argv)
    images, words = find_images(args.images), Vocabulary.load(split_words(args.words))
    refuse_inside(args.out, [args.images])
    segmenter = build_segmenter(args, args.device)
    root = args.images if args.images.is_dir() else args.images.parent
    broken = []
    for path in tqdm(images, desc='images', disable=len(images) == 1):
        try:
            result = segmenter(path, words)
        except ValueError as error:
            if len(images) == 1 or str(path) not in str(error):
                raise
            broken.append(str(error))
            continue
        target = args.out / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        result.save(target.with_name(f'{path.name}.labels.png'))
        result.plot().save(target.with_name(f'{path.name}.picture.png'))
    print(f'{len(images) - len(broken)} of {len(images)} images segmented into {args.out}')
    if broken:
        raise ValueError(f'{len(broken)} images could not be read: {"; ".join(broken)}')


if __name__ == '__main__':
    sys.exit(run(segment, None))
