"""Lay ShapesWorld pictures out on disk as a public benchmark would.

    python tools/dataset_converters/shapes_layout.py voc21 data/VOCdevkit/VOC2012 --num 4

The 13 classes of ShapesWorld are spread over the benchmark's classes, so labels are valid there but
mean nothing; where the benchmark has a background, the ground is it. The point is to run the
benchmark's config on files that look like its own, before the real ones are there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from layouts import LAYOUTS, write_layout

from mmseg_siglip.datasets.shapes_world.scene import CLASSES, SHAPES, generate, scene_seed

WITH_BACKGROUND = ('voc21', 'context60', 'coco_object')


def class_ids(name: str) -> list[int]:
    """The benchmark's class for each class of ShapesWorld (shapes first, then grounds)."""
    count = LAYOUTS[name].classes
    if name in WITH_BACKGROUND:
        things = [1 + index * (count - 1) // len(SHAPES) for index in range(len(SHAPES))]
        return things + [0] * (len(CLASSES) - len(SHAPES))
    return [index * count // len(CLASSES) for index in range(len(CLASSES))]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('name', metavar='NAME', choices=sorted(LAYOUTS), help=', '.join(LAYOUTS))
    parser.add_argument('out', metavar='OUT', type=Path, help="the config's data_root")
    parser.add_argument('--num', type=int, default=4, help='number of pictures')
    parser.add_argument(
        '--size', type=int, nargs=2, default=(128, 192), metavar=('HEIGHT', 'WIDTH')
    )
    args = parser.parse_args(argv)
    if args.num < 1:
        sys.exit(f'error: --num {args.num}, expected at least 1')
    scenes = (
        generate(scene_seed('test', index), size=tuple(args.size)) for index in range(args.num)
    )
    try:
        write_layout(
            args.name,
            args.out,
            ((scene.image, scene.classes.astype(np.int64)) for scene in scenes),
            class_ids=class_ids(args.name),
        )
    except ValueError as error:
        sys.exit(f'error: {error}')
    print(f'{args.num} pictures in {args.out}')


if __name__ == '__main__':
    main()
