"""Draw label maps from what other tools annotate, in the layout of docs/own_data.md.

    python tools/dataset_converters/label_maps.py coco instances_train.json data/own
    python tools/dataset_converters/label_maps.py panoptic panoptic_val2017.json data/own
    python tools/dataset_converters/label_maps.py labelme annotated data/own
    python tools/dataset_converters/label_maps.py yolo dataset data/own

* coco: COCO's instances, polygons or RLE. Crowd regions have no class.
* panoptic: COCO's panoptic JSON, its PNGs in the folder of that name beside it. Neither have void
  and crowd regions.
* labelme: a folder of Labelme's JSON, with polygons, rectangles and circles.
* yolo: a folder with ``data.yaml``, ``images`` and ``labels`` of polygons; it may have parts below
  these (``images/train``). An image without a text file shows none of the classes.

OUT gets ``masks/<image>.png``, 8-bit, and ``classes.txt``: values are lines of it from 0, 255 where
there is no class. Later regions are painted over earlier ones. A file that is damaged is named at
the end and stops no other.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from PIL import Image
from tqdm import tqdm

from mmseg_siglip.datasets.coco_file import read_coco
from mmseg_siglip.datasets.listing import KINDS, by_stem, list_files
from mmseg_siglip.datasets.referring_layouts import segmentation_source
from mmseg_siglip.datasets.referring_masks import decode_polygons, decode_source
from mmseg_siglip.datasets.refs_file import load_json
from mmseg_siglip.io.failures import Failure
from mmseg_siglip.io.files import write_atomically, write_image
from mmseg_siglip.io.image import MAX_PIXELS, decode_image
from mmseg_siglip.io.regular_file import read_regular
from mmseg_siglip.text.vocabulary import Vocabulary

VOID = 255
CIRCLE = np.linspace(0, 2 * np.pi, 180, endpoint=False)
IMAGES = dict(images=['file_name', 'height', 'width'], categories=['name'])


@dataclass(frozen=True)
class Drawing:
    """A label map to be.

    Attributes:
        stem: Path of its image without suffix, relative.
        source: The file that it is drawn from.
        draw: Gives the labels, (H, W) uint8; raises ``ValueError`` where they are damaged.
    """

    stem: str
    source: Path
    draw: Callable[[], np.ndarray]


def canvas(size: Any, where: str) -> np.ndarray:
    """A label map (H, W) uint8 that has no class anywhere.

    Raises:
        ValueError: The size is none.
    """
    height, width = size
    if any(type(side) is not int or side < 1 for side in size) or height * width > MAX_PIXELS:
        raise ValueError(
            f'{where}: expected height and width of at most {MAX_PIXELS} pixels, found '
            f'{height} x {width}'
        )
    return np.full(size, VOID, np.uint8)


def stem_below(name: str, where: str) -> str:
    """The name of an image without suffix.

    Raises:
        ValueError: It leads out of the folder.
    """
    path = PurePosixPath(name.replace('\\', '/'))
    if path.is_absolute() or '..' in path.parts or not path.stem:
        raise ValueError(f'{where}: expected the name of a file below a folder, found {name[:100]}')
    return path.with_suffix('').as_posix()


def coco(source: Path) -> tuple[list[str], list[Drawing]]:
    fields = dict(IMAGES, annotations=['image_id', 'category_id', 'segmentation'])
    found = read_coco(source, fields)
    classes = {key: index for index, key in enumerate(sorted(found['categories']))}
    of_image = defaultdict(list)
    for number, annotation in found['annotations'].items():
        if annotation['image_id'] not in found['images']:
            raise ValueError(
                f'{source}: annotation {number}: there is no image {annotation["image_id"]}'
            )
        if annotation['category_id'] not in classes:
            raise ValueError(
                f'{source}: annotation {number}: there is no category {annotation["category_id"]}'
            )
        of_image[annotation['image_id']].append(annotation)

    def draw(image: dict) -> np.ndarray:
        size = image['height'], image['width']
        labels = canvas(size, f'{source}: image {image["id"]}')
        for annotation in of_image[image['id']]:
            where = f'{source}: annotation {annotation["id"]}'
            shape = segmentation_source(annotation['segmentation'])
            index = VOID if annotation.get('iscrowd') else classes[annotation['category_id']]
            labels[decode_source(shape, size, where, read=None) == 1] = index
        return labels

    names = [found['categories'][key]['name'] for key in classes]
    return names, [
        Drawing(stem_below(image['file_name'], str(source)), source, partial(draw, image))
        for _, image in sorted(found['images'].items())
    ]


def holds(value: Any, **kinds: type) -> bool:
    """Whether that is an object with fields of these kinds."""
    return isinstance(value, dict) and all(type(value.get(key)) is kinds[key] for key in kinds)


def panoptic(source: Path) -> tuple[list[str], list[Drawing]]:
    found = read_coco(source, IMAGES)
    classes = {key: index for index, key in enumerate(sorted(found['categories']))}
    annotations = load_json(source).get('annotations')
    if not isinstance(annotations, list):
        raise ValueError(f'{source}: expected a list of annotations')

    def draw(file: Path, annotation: dict, image: dict) -> np.ndarray:
        blue_green_red = decode_image(read_regular(file), str(file)).astype(np.int64)
        numbers = blue_green_red @ np.array([1 << 16, 1 << 8, 1])
        labels = canvas((image['height'], image['width']), f'{source}: image {image["id"]}')
        if labels.shape != numbers.shape:
            raise ValueError(f'{file}: expected the size {labels.shape}, found {numbers.shape}')
        table = {0: VOID}
        for segment in annotation['segments_info']:
            if segment['category_id'] not in classes:
                raise ValueError(f'{file}: there is no category {segment["category_id"]}')
            crowd = segment.get('iscrowd')
            table[segment['id']] = VOID if crowd else classes[segment['category_id']]
        present, places = np.unique(numbers, return_inverse=True)
        strange = [number for number in present.tolist() if number not in table]
        if strange:
            raise ValueError(f'{file}: no segment of {source.name} has the id {strange[0]}')
        values = np.array([table[number] for number in present.tolist()], np.uint8)
        return values[places].reshape(labels.shape)

    drawings = []
    for number, annotation in enumerate(annotations):
        where = f'{source}: annotations[{number}]'
        if not holds(annotation, image_id=int, file_name=str, segments_info=list) or not all(
            holds(segment, id=int, category_id=int) for segment in annotation['segments_info']
        ):
            raise ValueError(
                f'{where}: expected image_id, file_name, and segments_info with id and category_id'
            )
        if annotation['image_id'] not in found['images']:
            raise ValueError(f'{where}: there is no image {annotation["image_id"]}')
        image = found['images'][annotation['image_id']]
        stem_below(annotation['file_name'], where)
        stem = stem_below(image['file_name'], where)
        file = source.with_suffix('') / annotation['file_name']
        drawings.append(Drawing(stem, file, partial(draw, file, annotation, image)))
    return [found['categories'][key]['name'] for key in classes], drawings


def labelme(source: Path) -> tuple[list[str], list[Drawing]]:
    files = [source / name for name in list_files(str(source)) if name.endswith('.json')]
    drawings, names = [], set()
    for file in files:
        try:
            names |= {shape['label'] for shape in labelme_shapes(file)[1]}
        except ValueError:
            pass  # it is named where it is drawn
    names = sorted(names)

    def draw(file: Path) -> np.ndarray:
        size, shapes = labelme_shapes(file)
        labels = canvas(size, str(file))
        for number, shape in enumerate(shapes):
            where = f'{file}: shapes[{number}]'
            outline = labelme_outline(shape, where)
            labels[decode_polygons([outline], size, where) == 1] = names.index(shape['label'])
        return labels

    for file in files:
        stem = file.relative_to(source).with_suffix('').as_posix()
        drawings.append(Drawing(stem, file, partial(draw, file)))
    return names, drawings


def labelme_shapes(file: Path) -> tuple[tuple[int, int], list[dict]]:
    """Size (H, W) and shapes of a file of Labelme's.

    Raises:
        ValueError: It is none.
    """
    found = load_json(file)
    shapes = found.get('shapes') if isinstance(found, dict) else None
    if not isinstance(shapes, list) or not {'imageHeight', 'imageWidth'} <= found.keys():
        raise ValueError(f"{file}: expected Labelme's shapes, imageHeight and imageWidth")
    for number, shape in enumerate(shapes):
        fits = isinstance(shape, dict) and {'label', 'points'} <= shape.keys()
        if not fits or not isinstance(shape['label'], str):
            raise ValueError(f'{file}: shapes[{number}]: expected a label and points')
    return (found['imageHeight'], found['imageWidth']), shapes


def labelme_outline(shape: dict, where: str) -> list[float]:
    """A shape as x1, y1, x2, y2, ..."""
    kind = shape.get('shape_type', 'polygon')
    try:
        points = np.array(shape['points'], np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise ValueError(f'{where}: expected points x, y') from None
    if kind == 'polygon':
        return points.ravel().tolist()
    if kind not in ('rectangle', 'circle') or len(points) != 2:
        raise ValueError(
            f'{where}: expected a polygon, or a rectangle or circle of two points, found {kind} '
            f'of {len(points)}'
        )
    (left, top), (right, bottom) = points.tolist()
    if kind == 'rectangle':
        return [left, top, right, top, right, bottom, left, bottom]
    radius = np.hypot(right - left, bottom - top)
    ring = points[0] + radius * np.stack([np.cos(CIRCLE), np.sin(CIRCLE)], 1)
    return ring.ravel().tolist()


def yolo(source: Path) -> tuple[list[str], list[Drawing]]:
    names = yolo_names(source / 'data.yaml')
    images = by_stem(list_files(str(source / 'images')), ('', '.jpg'), 'images', any_kind=True)
    texts = by_stem(list_files(str(source / 'labels')), ('', '.txt'), 'labels')
    alone = [stem for stem in texts if stem not in images]
    if alone:
        raise ValueError(
            f'{source / "labels"}: expected an image for each text file ({", ".join(sorted(KINDS))}'
            f'), found none for {texts[alone[0]]}'
        )

    def draw(stem: str) -> np.ndarray:
        image = source / 'images' / images[stem]
        size = decode_image(read_regular(image), str(image)).shape[:2]
        labels = canvas(size, str(image))
        if stem in texts:
            for index, outline, where in yolo_lines(source / 'labels' / texts[stem], len(names)):
                ring = (outline.reshape(-1, 2) * size[::-1]).ravel().tolist()
                labels[decode_polygons([ring], size, where) == 1] = index
        return labels

    folder = source / 'images'
    return names, [Drawing(stem, folder / images[stem], partial(draw, stem)) for stem in images]


def yolo_names(file: Path) -> list[str]:
    """The class names of ``data.yaml``.

    Raises:
        ValueError: It cannot be read, or its names are no list and no numbers from 0.
    """
    try:
        found = yaml.safe_load(read_regular(file))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f'{file} cannot be read: {error}') from None
    names = found.get('names') if isinstance(found, dict) else None
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list):
        raise ValueError(f'{file}: expected names, a list or numbers from 0 with a name each')
    return names


def yolo_lines(file: Path, classes: int) -> Iterator[tuple[int, np.ndarray, str]]:
    """Class, outline as parts of the image (x1, y1, x2, y2, ...), and place of each line."""
    try:
        text = read_regular(file).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f'{file}: expected UTF-8 text ({error})') from None
    for number, line in enumerate(text.splitlines(), 1):
        where = f'{file}, line {number}'
        try:
            index, *outline = (float(word) for word in line.split())
        except ValueError:
            if not line.strip():
                continue
            raise ValueError(f'{where}: expected numbers, found {line[:100]!r}') from None
        if len(outline) < 6 or len(outline) % 2:
            what = 'a box' if len(outline) == 4 else f'{len(outline)} numbers'
            raise ValueError(f'{where}: expected a polygon x1 y1 x2 y2 x3 y3 ..., found {what}')
        if index not in range(classes):
            raise ValueError(f'{where}: expected a class of 0 to {classes - 1}, found {index:g}')
        yield int(index), np.array(outline), where


READERS: dict[str, Callable[[Path], tuple[list[str], list[Drawing]]]] = dict(
    coco=coco, panoptic=panoptic, labelme=labelme, yolo=yolo
)


def convert(kind: str, source: Path, out: Path) -> tuple[int, list[Failure]]:
    """Draw all that can be drawn.

    Returns:
        How many label maps were written, and what could not be.

    Raises:
        ValueError: The source as a whole is not what it should be.
    """
    names, drawings = READERS[kind](source)
    if not drawings:
        raise ValueError(f'{source}: expected annotations, found none')
    if not 0 < len(names) <= VOID:
        raise ValueError(f'{source}: expected 1 to {VOID} classes, found {len(names)}')
    odd = [n for n in names if not isinstance(n, str) or ',' in n or n.strip().startswith('#')]
    if odd:
        raise ValueError(
            f'{source}: expected names of classes without commas or # before them, found {odd[0]!r}'
        )
    lines = Vocabulary.load(names).lines
    if len({drawing.stem for drawing in drawings}) < len(drawings):
        raise ValueError(f'{source}: expected images that differ in more than their suffixes')
    failures = []
    for drawing in tqdm(drawings, disable=None):
        try:
            labels = drawing.draw()
        except (ValueError, OSError) as error:
            failures.append(Failure.of(drawing.source, error))
            continue
        write_image(Image.fromarray(labels), out / 'masks' / f'{drawing.stem}.png')
    write_atomically(''.join(f'{line}\n' for line in lines), out / 'classes.txt')
    return len(drawings) - len(failures), failures


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('kind', choices=READERS, metavar='KIND', help=', '.join(READERS))
    parser.add_argument('source', type=Path, metavar='SOURCE')
    parser.add_argument('out', type=Path, metavar='OUT')
    args = parser.parse_args(argv)
    try:
        count, failures = convert(args.kind, args.source, args.out)
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    print(f'{count} label maps in {args.out / "masks"}')
    for failure in failures:
        print(failure, file=sys.stderr)
    if failures:
        sys.exit(f'error: {len(failures)} label maps could not be drawn')


if __name__ == '__main__':
    main()
