"""Draw COCO-Object's label maps: 0 background, 1 to 80 the things in the order of category ids.

    python tools/dataset_converters/coco_object.py SOURCE OUT

SOURCE is one of

* the folder of COCO-Stuff's ``stuffthingmaps`` PNGs (category id - 1, stuff from 91, void 255).
  This is the published benchmark (GroupViT, https://arxiv.org/abs/2202.11094): stuff and void,
  with it crowds and whatever nobody annotated, count as background.
* COCO's ``instances_*.json``. Instances are painted in the file's order, later ones over earlier
  ones, as COCO-Stuff paints them. Crowd regions are left out, hence background, likewise.

OUT gets ``<image>_instanceTrainIds.png``, 8-bit; ``configs/_base_/datasets/coco_object.py`` looks
for them in ``data/coco_stuff164k/annotations/val2017``, next to COCO-Stuff's own.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from mmseg_siglip.datasets.coco_file import read_coco
from mmseg_siglip.datasets.referring_layouts import segmentation_source
from mmseg_siglip.datasets.referring_masks import decode_source
from mmseg_siglip.io.files import write_image
from mmseg_siglip.io.image import MAX_PIXELS, decode_labels

GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
CATEGORY_IDS = tuple(index for index in range(1, 91) if index not in GAPS)
CLASS_OF = {category: index for index, category in enumerate(CATEGORY_IDS, 1)}
SUFFIX = '_instanceTrainIds.png'


def from_stuff(values: np.ndarray, name: str) -> np.ndarray:
    """COCO-Stuff values (H, W) to object labels (H, W) uint8.

    Raises:
        ValueError: A value that COCO-Stuff does not define.
    """
    table = np.full(65536, 255, np.uint8)
    table[91:182] = 0
    table[255] = 0
    for category, index in CLASS_OF.items():
        table[category - 1] = index
    labels = table[values]
    if (labels == 255).any():
        strange = int(values[labels == 255][0])
        raise ValueError(f'{name} holds {strange}, which is no category of COCO-Stuff')
    return labels


def from_instances(image: dict, annotations: Sequence[dict], name: str) -> np.ndarray:
    """The instances of an image as object labels (H, W) uint8.

    Args:
        image: Its entry in COCO's file.
        annotations: The entries of its instances.
        name: Of the file.

    Raises:
        ValueError: An instance of a category that is none of COCO's 80, or whose mask is damaged.
    """
    size = image['height'], image['width']
    if any(type(side) is not int or side < 1 for side in size) or size[0] * size[1] > MAX_PIXELS:
        raise ValueError(
            f'{name}: image {image["id"]}: expected height and width of at most {MAX_PIXELS} '
            f'pixels, found {size[0]} x {size[1]}'
        )
    labels = np.zeros(size, np.uint8)
    for annotation in annotations:
        if annotation['iscrowd']:
            continue
        where = f'{name}: annotation {annotation["id"]}'
        if annotation['category_id'] not in CLASS_OF:
            raise ValueError(
                f"{where} has category {annotation['category_id']}, which is none of COCO's 80 "
                'things'
            )
        mask = decode_source(
            segmentation_source(annotation['segmentation']), size, where, read=None
        )
        labels[mask == 1] = CLASS_OF[annotation['category_id']]
    return labels


def label_maps(source: Path) -> tuple[int, Iterator[tuple[str, np.ndarray]]]:
    """How many label maps ``source`` gives, and each as (name of the image, labels)."""
    if source.is_dir():
        files = [
            file for file in sorted(source.glob('*.png')) if not file.stem.endswith('TrainIds')
        ]
        if not files:
            raise ValueError(f'{source} holds no *.png of COCO-Stuff')
        return len(files), (
            (file.stem, from_stuff(decode_labels(file.read_bytes(), str(file)), str(file)))
            for file in files
        )
    if source.suffix != '.json' or not source.is_file():
        raise ValueError(f'{source} is neither a folder of PNGs nor a file instances_*.json')
    fields = dict(
        images=['file_name', 'height', 'width'],
        annotations=['image_id', 'category_id', 'segmentation', 'iscrowd'],
        categories=[],
    )
    coco = read_coco(source, fields)
    of_image = defaultdict(list)
    for annotation in coco['annotations'].values():
        of_image[annotation['image_id']].append(annotation)
    images = [image for _, image in sorted(coco['images'].items())]
    return len(images), (
        (Path(image['file_name']).stem, from_instances(image, of_image[image['id']], str(source)))
        for image in images
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, metavar='SOURCE')
    parser.add_argument('out', type=Path, metavar='OUT')
    args = parser.parse_args(argv)
    try:
        count, maps = label_maps(args.source)
        args.out.mkdir(parents=True, exist_ok=True)
        for name, labels in tqdm(maps, total=count, disable=None):
            write_image(Image.fromarray(labels), args.out / f'{name}{SUFFIX}')
    except ValueError as error:
        sys.exit(f'error: {error}')
    print(f'{count} label maps in {args.out}')


if __name__ == '__main__':
    main()
