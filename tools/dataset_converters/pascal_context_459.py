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
from math import prod
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import loadmat, whosmat
from tqdm import tqdm

from mmseg_siglip.datasets.name_lists import read_names
from mmseg_siglip.io.files import write_image
from mmseg_siglip.io.image import MAX_PIXELS

LISTS = ('ImageSets/SegmentationContext/val.txt', 'pascalcontext_val.txt')
OUT = 'annotations_detectron2/pc459_val'
KEY = 'LabelMap'
FORK = get_context('fork')
HIGHEST = 460  # category 460 is "unknown"


def send_categories(path: Path, sender: Connection) -> None:
    """Send `KEY` of a file as an array, or as text what keeps it from being one.

    In a process of its own, since scipy's reader ends its process on some damaged files.
    """
    try:
        claimed = {name: shape for name, shape, _ in whosmat(path)}
        if prod(claimed.get(KEY, ())) > MAX_PIXELS:
            raise ValueError(f'{KEY} of {claimed[KEY]} is larger than {MAX_PIXELS} pixels')
        content = loadmat(path, variable_names=[KEY])
        sender.send(np.asarray(content[KEY]) if KEY in content else f'it holds no {KEY}')
    except Exception as error:  # scipy has no one error for the many ways to be no such file
        sender.send(f'{error}')


def read_labels(path: Path) -> np.ndarray:
    """Class indices (H, W) uint16 of one file.

    Raises:
        ValueError: It cannot be read, or holds something else.
    """
    receiver, sender = FORK.Pipe(duplex=False)
    reader = FORK.Process(target=send_categories, args=(path, sender), daemon=True)
    reader.start()
    sender.close()
    try:
        categories = receiver.recv()
    except EOFError:
        categories = 'its reader crashed'
    reader.join()
    if isinstance(categories, str):
        raise ValueError(f'{path} cannot be read as a MATLAB file: {categories}')
    if categories.ndim != 2 or not categories.size or categories.dtype.kind not in 'uif':
        raise ValueError(
            f'{path}: expected numbers of categories in {KEY} (H, W), found {categories.dtype} of '
            f'shape {categories.shape}'
        )
    low, high = categories.min(), categories.max()
    if not 1 <= low <= high <= HIGHEST or (categories % 1).any():
        raise ValueError(
            f'{path}: expected categories 1 to {HIGHEST} in {KEY}, whole numbers, found {low} to '
            f'{high}'
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
    stems = read_names(str(lists[0]))
    sources = [root / 'trainval' / f'{stem}.mat' for stem in stems]
    missing = [path for path in sources if not path.is_file()]
    if missing:
        raise ValueError(f'{len(missing)} of {len(sources)} files are missing, first {missing[0]}')
    (root / OUT).mkdir(parents=True, exist_ok=True)
    for path in tqdm(sources, disable=None):
        labels = Image.fromarray(read_labels(path))
        write_image(labels, root / OUT / f'{path.stem}.tif', kind='TIFF')
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
