"""Templated referring expressions for COCO instances, as JSON lines for `ReferringDataset`.

    python tools/dataset_converters/coco_expressions.py instances_val2017.json val.jsonl

For each image and category: ``the NOUN`` if there is one instance; with more, ``the EXTREME NOUN``
where one instance clearly is the leftmost, rightmost, topmost, bottommost, largest or smallest;
with two, ``the left NOUN`` and ``the right NOUN``; and ``the NOUN left of the OTHER`` where two
categories have one instance each that do not overlap from side to side. What is too close to call
is left out, as are categories with a crowd region in the image, and tiny objects, which still
count as rivals. COCO names every instance of its categories, so a phrase fits one object alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmseg_siglip.datasets.coco_file import read_coco
from mmseg_siglip.io.files import write_atomically

CLEARLY_APART = 0.06  # of the image's short side
CLEARLY_LARGER = 1.3  # ratio of areas
FIELDS = dict(
    images=['file_name', 'height', 'width'],
    annotations=['image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'segmentation'],
    categories=['name'],
)


@dataclass(frozen=True)
class Item:
    """An instance: centre and sides of its box in short sides of the image, area in pixels."""

    number: int
    noun: str
    x: float
    y: float
    width: float
    area: float


def outdoes(extreme: str, a: Item, b: Item) -> bool:
    """Whether one instance clearly is more to the left, larger, ... than another."""
    return {
        'leftmost': b.x - a.x >= CLEARLY_APART,
        'rightmost': a.x - b.x >= CLEARLY_APART,
        'topmost': b.y - a.y >= CLEARLY_APART,
        'bottommost': a.y - b.y >= CLEARLY_APART,
        'largest': a.area >= CLEARLY_LARGER * b.area,
        'smallest': b.area >= CLEARLY_LARGER * a.area,
    }[extreme]


EXACT = 2**53  # beyond it a float64 skips whole numbers
EXTREMES = ('leftmost', 'rightmost', 'topmost', 'bottommost', 'largest', 'smallest')


def expressions(items: Sequence[Item]) -> Iterator[tuple[str, int]]:
    """Phrases of one image, each with the number of the instance that it fits."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.noun].append(item)
    for noun, group in groups.items():
        if len(group) == 1:
            yield f'the {noun}', group[0].number
            continue
        for extreme in EXTREMES:
            for item in group:
                if all(outdoes(extreme, item, other) for other in group if other is not item):
                    yield f'the {extreme} {noun}', item.number
                    if len(group) == 2 and extreme in ('leftmost', 'rightmost'):
                        yield f'the {extreme.removesuffix("most")} {noun}', item.number
    alone = [group[0] for group in groups.values() if len(group) == 1]
    for a in alone:
        for b in alone:
            if a is not b and b.x - a.x >= (a.width + b.width) / 2:
                yield f'the {a.noun} left of the {b.noun}', a.number
                yield f'the {b.noun} right of the {a.noun}', b.number


def lines(coco: Mapping[str, dict], min_area: float, folder: Path | None) -> Iterator[dict]:
    """One object for each instance that a phrase fits, images in the order of their ids."""
    nouns = {number: category['name'] for number, category in coco['categories'].items()}
    of_image: dict[int, dict[int, dict]] = defaultdict(dict)
    for number, annotation in coco['annotations'].items():
        of_image[annotation['image_id']][number] = annotation
    for _, image in sorted(coco['images'].items()):
        if folder is not None and not (folder / image['file_name']).is_file():
            continue
        height, width = image['height'], image['width']
        annotations = of_image[image['id']]
        crowds = {a['category_id'] for a in annotations.values() if a['iscrowd']}
        items = []
        for a in annotations.values():
            if a['category_id'] not in crowds:
                x, y, w, h = (value / min(height, width) for value in a['bbox'])
                noun = nouns[a['category_id']]
                items.append(Item(a['id'], noun, x + w / 2, y + h / 2, w, a['area']))
        phrases: dict[int, list[str]] = defaultdict(list)
        for text, number in expressions(items):
            if annotations[number]['area'] >= min_area * height * width:
                phrases[number].append(text)
        for number, texts in phrases.items():
            shape = annotations[number]['segmentation']
            key = 'rle' if isinstance(shape, dict) else 'polygons'
            yield {
                'image': image['file_name'],
                'image_size': [height, width],
                key: shape,
                'expressions': texts,
            }


def check_numbers(coco: Mapping[str, dict], path: Path) -> None:
    """Refuse what cannot be compared.

    Raises:
        ValueError: A size, a box or an area is no number, or a category is not there.
    """
    for image in coco['images'].values():
        if not all(_positive(image[side]) for side in ('height', 'width')):
            raise ValueError(f'{path}: image {image["id"]}: expected height and width above 0')
    for annotation in coco['annotations'].values():
        box, where = annotation['bbox'], f'{path}: annotation {annotation["id"]}'
        if not isinstance(box, list) or len(box) != 4 or not all(map(_number, box)):
            raise ValueError(f'{where}: expected bbox as four numbers, found {str(box)[:100]}')
        if not _number(annotation['area']):
            raise ValueError(f'{where}: expected area as a number')
        if annotation['category_id'] not in coco['categories']:
            raise ValueError(f'{where}: there is no category {annotation["category_id"]}')


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and -EXACT < value < EXACT


def _positive(value: object) -> bool:
    return _number(value) and value > 0


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('instances', type=Path, metavar='INSTANCES', help="COCO's JSON file")
    parser.add_argument('out', type=Path, metavar='OUT', help='a .jsonl file')
    parser.add_argument(
        '--min-area',
        type=float,
        default=0.001,
        metavar='PART',
        help='smallest object, as a part of the image [%(default)s]',
    )
    parser.add_argument(
        '--images', type=Path, metavar='DIR', help='leave out images that are not in this folder'
    )
    args = parser.parse_args(argv)
    try:
        coco = read_coco(args.instances, FIELDS)
        check_numbers(coco, args.instances)
        entries = list(lines(coco, args.min_area, args.images))
    except ValueError as error:
        sys.exit(f'error: {error}')
    text = ''.join(f'{json.dumps(entry)}\n' for entry in entries)
    write_atomically(text, args.out)
    images = len({entry['image'] for entry in entries})
    phrases = sum(len(entry['expressions']) for entry in entries)
    print(f'{phrases} phrases for {len(entries)} objects of {images} images in {args.out}')


if __name__ == '__main__':
    main()
