"""Draw the 459-class label maps of PASCAL Context from its ``.mat`` files.

    python tools/dataset_converters/pascal_context_459.py data/VOCdevkit/VOC2010

Reads ``trainval/<image>.mat`` (https://cs.stanford.edu/~roozbeh/pascal-context) of the images that
``ImageSets/SegmentationContext/val.txt`` or ``pascalcontext_val.txt`` lists, and writes
``annotations_detectron2/pc459_val/<image>.tif``: 16-bit, classes 0 to 458, 459 where the file has
no category.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import loadmat
from tqdm import tqdm

LISTS = ('ImageSets/SegmentationContext/val.txt', 'pascalcontext_val.txt')
OUT = 'annotations_detectron2/pc459_val'
KEY = 'LabelMap'
HIGHEST = 460  # category 460 is "unknown"


def read_labels(path: Path) -> np.ndarray:
    """Class indices (H, W) uint16 of one file.

    Raises:
        ValueError: It cannot be read, or holds something else.
    """
    try:
        content = loadmat(path)
    except Exception as error:  # scipy has no one error for the many ways to be no such file
        raise ValueError(f'{path} cannot be read as a MATLAB file: {error}') from None
    if KEY not in content:
        raise ValueError(f'{path} holds no {KEY}')
    categories = np.asarray(content[KEY])
    if categories.ndim != 2 or categories.min() < 1 or categories.max() > HIGHEST:
        raise ValueError(
            f'{path}: expected categories 1 to {HIGHEST} in {KEY} (H, W), found '
            f'{categories.min()} to {categories.max()} in {categories.shape}'
        )
    return (categories - 1).astype(np.uint16)


def convert(root: Path) -> int:
    """Write all label maps; returns how many.

    Raises:
        ValueError: A list or a file is not there, or is not what it should be.
    """
    lists = [root / name for name in LISTS if (root / name).is_file()]
    if not lists:
        raise ValueError(f'{root} has neither {" nor ".join(LISTS)}')
    stems = lists[0].read_text().split()
    sources = [root / 'trainval' / f'{stem}.mat' for stem in stems]
    missing = [path for path in sources if not path.is_file()]
    if missing:
        raise ValueError(f'{len(missing)} of {len(sources)} files are missing, first {missing[0]}')
    (root / OUT).mkdir(parents=True, exist_ok=True)
    for path in tqdm(sources, disable=None):
        Image.fromarray(read_labels(path)).save(root / OUT / f'{path.stem}.tif')
    return len(sources)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', type=Path, metavar='VOC2010')
    args = parser.parse_args(argv)
    try:
        count = convert(args.root)
    except ValueError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'{count} label maps in {args.root / OUT}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
