"""Draw the 847-class label maps of ADE20K from its full release.

    python tools/dataset_converters/ade20k_847.py data/ade/ADE20K_2021_17_01

Reads ``images/ADE/validation/**/<image>.jpg`` and ``<image>_seg.png``, and writes
``images_detectron2/validation/<image>.jpg``, the short side at most 512 pixels as in MaskFormer's
preparation, and ``annotations_detectron2/validation/<image>.tif``: 16-bit, classes 0 to 846, 65535
elsewhere. ``--split training`` does the same for the other pictures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from mmseg_siglip.datasets.ade20k_numbers import NUMBERS
from mmseg_siglip.io.files import write_image
from mmseg_siglip.io.image import decode_image

IGNORE = 65535
SHORT_SIDE = 512
SUFFIX = '_seg.png'
COUNT = 26 * 256  # more than the format can tell apart


def read_labels(pixels: np.ndarray, name: str) -> np.ndarray:
    """Class indices (H, W) uint16 of a segmentation picture (H, W, 3), BGR.

    ADE20K's number of a class is 256 times the tens of red, plus green; blue tells instances apart.

    Raises:
        ValueError: It is another kind of picture.
    """
    tens, rest = np.divmod(pixels[..., 2].astype(np.int64), 10)
    if rest.any():
        raise ValueError(
            f'{name} is no segmentation of ADE20K: expected multiples of 10 in red, '
            f'found {int(pixels[..., 2][rest > 0][0])}'
        )
    table = np.full(COUNT, IGNORE, np.uint16)
    table[list(NUMBERS)] = np.arange(len(NUMBERS))
    return table[tens * 256 + pixels[..., 1]]


def shrink(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both at a short side of at most `SHORT_SIDE`."""
    height, width = labels.shape
    short = min(height, width)
    if short <= SHORT_SIDE:
        return image, labels
    size = tuple(round(side / short * SHORT_SIDE) for side in (width, height))
    return (
        cv2.resize(image, size, interpolation=cv2.INTER_LINEAR),
        cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST),
    )


def convert(root: Path, split: str) -> int:
    """Write all pictures and label maps of a split; returns how many.

    Raises:
        ValueError: There are none, one is missing or unreadable, or two do not fit together.
    """
    source = root / 'images/ADE' / split
    segmentations = sorted(source.rglob(f'*{SUFFIX}'))
    if not segmentations:
        raise ValueError(f'{source} holds no *{SUFFIX}')
    folders = [root / f'{kind}_detectron2' / split for kind in ('images', 'annotations')]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for path in tqdm(segmentations, disable=None):
        stem = path.name.removesuffix(SUFFIX)
        picture = path.with_name(f'{stem}.jpg')
        if not picture.is_file():
            raise ValueError(f'{picture} is missing, there is {path.name}')
        image = decode_image(picture.read_bytes(), str(picture))
        labels = read_labels(decode_image(path.read_bytes(), str(path)), str(path))
        if image.shape[:2] != labels.shape:
            raise ValueError(
                f'{picture} is {image.shape[:2]}, its segmentation {labels.shape} (H, W)'
            )
        image, labels = shrink(image, labels)
        write_image(Image.fromarray(image[..., ::-1]), folders[0] / f'{stem}.jpg', kind='JPEG')
        write_image(Image.fromarray(labels), folders[1] / f'{stem}.tif', kind='TIFF')
    return len(segmentations)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', type=Path, metavar='ADE20K_2021_17_01')
    parser.add_argument('--split', choices=('validation', 'training'), default='validation')
    args = parser.parse_args(argv)
    try:
        count = convert(args.root, args.split)
    except ValueError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'{count} label maps in {args.root / "annotations_detectron2" / args.split}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
