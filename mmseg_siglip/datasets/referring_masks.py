"""What a phrase refers to, as data sets write it down, to pixels.

A source is one of

* ``None``: nothing in the image fits the phrase;
* an array (H, W) of bool;
* a dict with one of the keys ``file`` (a path; pixels above ``above``, 0 by default, belong to the
  target), ``polygons`` (COCO's: lists x1, y1, x2, y2, ... in pixels), ``rle`` (COCO's, compressed
  or not), ``parts`` (sources whose union it is); and maybe ``image_size``, (H, W) of the image that
  it was drawn on.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from pycocotools import mask as coco_mask

from mmseg_siglip.io.exact_labels import NOISE, is_jpeg, refuse_inverted, refuse_transparent
from mmseg_siglip.io.image import MAX_PIXELS, decode_image, decode_labels

MaskSource = Mapping | np.ndarray | None
WARNED: list[str] = []
"""The file that this process has warned of, see `_warn_of_values`."""
KINDS = ('file', 'polygons', 'rle', 'parts')
UNSURE = 255
"""What many label files call ignored, beside a target of 1."""
LONGEST_OUTLINE = 2_000_000
LONGEST_COUNT = 64  # bits


def decode_source(source: MaskSource, size: tuple[int, int], name: str, *, read) -> np.ndarray:
    """A source as (H, W) uint8, 0 and 1.

    Args:
        source: See above.
        size: (H, W) of the image.
        name: What to call the phrase's image in an error.
        read: From a path to the bytes of a file.

    Raises:
        ValueError: Of no known kind, damaged, or of another size than the image.
    """
    if source is None:
        return np.zeros(size, np.uint8)
    if isinstance(source, np.ndarray):
        mask = source
    elif tuple(source.get('image_size', size)) != tuple(size):
        height, width = source['image_size']
        raise ValueError(
            f'{name}: expected an image of {height} x {width} (height x width), on which its '
            f'annotation was drawn, found {size[0]} x {size[1]}'
        )
    elif 'file' in source:
        mask = mask_of_file(read(source['file']), source['file'], above=source.get('above', 0))
        name = source['file']
    elif 'polygons' in source:
        mask = decode_polygons(source['polygons'], size, name)
        check_reach(source['polygons'], size, name)
        if not mask.any():
            warnings.warn(
                f'{name}: polygons that cover no pixel count as a phrase that fits nothing',
                stacklevel=2,
            )
    elif 'rle' in source:
        mask = decode_rle(source['rle'], size, name)
    elif 'parts' in source:
        parts = [decode_source(part, size, name, read=read) for part in source['parts']]
        mask = np.any(parts, axis=0)
    else:
        raise ValueError(f'{name}: expected a mask by {", ".join(KINDS)}, found {sorted(source)}')
    if mask.shape != tuple(size):
        raise ValueError(
            f'{name}: expected a mask of {size[0]} x {size[1]} (height x width) as its image, '
            f'found {" x ".join(map(str, mask.shape))}'
        )
    return mask.astype(np.uint8)


def mask_of_file(data: bytes, name: str, *, above: int) -> np.ndarray:
    """Where a mask file is above a value, (H, W) bool.

    Raises:
        ValueError: Compression, transparency or a palette has changed what is above it, or the file
            has another scale.
    """
    if above < NOISE and is_jpeg(data):
        raise ValueError(
            f'{name} is a JPEG, whose compression leaves traces above 0: expected a PNG or '
            'TIFF, or mask_above=127'
        )
    values = read_mask(data, name)
    found = sorted(set(np.unique(values).tolist()) - {0})
    if above < 1 and found == [1, UNSURE]:
        raise ValueError(
            f'{name}: expected one value above 0, the target, found 1 and {UNSURE}; where '
            f'{UNSURE} means ignored, it would be counted as target'
        )
    if len(found) == 1 and found[0] <= above:
        raise ValueError(
            f'{name}: expected a target of values above mask_above={above}, found {found[0]} alone'
        )
    if above < 1 and len(found) > 1:
        _warn_of_values(name, found)
    return values > above


def _warn_of_values(name: str, found: Sequence[int]) -> None:
    """Name the first such file; a data set may have any number of them."""
    if not WARNED:
        WARNED.append(name)
        warnings.warn(
            f'{name}, and maybe others, has {len(found)} values above 0, from {found[0]} to '
            f'{found[-1]}, all of which count as the target: are they several objects, or soft '
            'edges?',
            stacklevel=3,
        )


def read_mask(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """A mask file, values (H, W); of several channels the brightest counts.

    Raises:
        ValueError: It cannot be read, or see `refuse_transparent` and `refuse_inverted`.
    """
    try:
        values = decode_labels(data, name, max_pixels=max_pixels)
    except ValueError:  # several channels, or damaged, which the next line says
        values = decode_image(data, name, max_pixels=max_pixels).max(axis=-1)
        refuse_transparent(data, name)
    refuse_inverted(data, name)
    return values


def check_reach(polygons: Sequence, size: tuple[int, int], name: str) -> None:
    """Refuse a target that is nowhere, which would count as a phrase that fits nothing.

    Args:
        polygons: As `decode_polygons` takes them.
        size: (H, W) of the image.
        name: Of the image.

    Raises:
        ValueError: All polygons are outside of the image, or within its first pixel, as where
            numbers are parts of its sides.
    """
    points = np.hstack([np.ravel(polygon) for polygon in polygons]).reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    if (high <= 0).any() or (low >= size[::-1]).any():
        raise ValueError(
            f'{name}: expected polygons that reach into the image of {size[1]} x {size[0]} (width '
            f'x height), found them from {low.tolist()} to {high.tolist()}'
        )
    if (low >= 0).all() and (high <= 1).all() and max(size) > 1:
        raise ValueError(
            f'{name}: expected polygons in pixels, found no number above 1; multiply parts of the '
            'sides by width and height'
        )


def decode_polygons(polygons: Sequence, size: tuple[int, int], name: str) -> np.ndarray:
    """The union of polygons, rasterised as COCO does: (H, W) uint8.

    Raises:
        ValueError: They are none, go farther out of the image than it is large, or have an outline
            of more than `LONGEST_OUTLINE` pixels: pycocotools makes room for every pixel of it.
    """
    polygons = polygons if isinstance(polygons, Sequence) else [polygons]
    if len(polygons) and not isinstance(polygons[0], Sequence):
        polygons = [polygons]
    odd = [p for p in polygons if not isinstance(p, Sequence) or len(p) < 6 or len(p) % 2]
    if odd or not len(polygons):
        raise ValueError(
            f'{name}: expected polygons of three or more points x1, y1, x2, y2, ..., '
            f'found {str(odd[0])[:100] if odd else "none"}'
        )
    try:
        rings = [np.array(p, np.float64).reshape(-1, 2) for p in polygons]
    except (TypeError, ValueError, OverflowError):
        rings = [np.full((3, 2), np.nan)]
    if not all(np.isfinite(ring).all() for ring in rings):
        raise ValueError(f'{name}: expected polygons of finite numbers')
    sides = np.array(size[::-1], np.float64)
    far = [ring for ring in rings if (ring < -sides).any() or (ring > 2 * sides).any()]
    if far:
        raise ValueError(
            f'{name}: expected polygons within the image of {size[1]} x {size[0]} (width x '
            f'height), found the point {far[0][np.abs(far[0]).max(1).argmax()].tolist()}'
        )
    outline = sum(np.abs(ring - np.roll(ring, 1, 0)).max(1).sum() for ring in rings)
    if outline > LONGEST_OUTLINE:
        raise ValueError(
            f'{name}: expected polygons of at most {LONGEST_OUTLINE} pixels of outline, '
            f'found {outline:.0f}'
        )
    parts = coco_mask.frPyObjects([ring.ravel().tolist() for ring in rings], *size)
    return coco_mask.decode(coco_mask.merge(parts))


def decode_rle(rle: Mapping, size: tuple[int, int], name: str) -> np.ndarray:
    """COCO's run lengths, with ``counts`` a list of integers or a compressed string."""
    if isinstance(rle, Sequence) and len(rle) == 1:
        rle = rle[0]
    fields = set(rle) if isinstance(rle, Mapping) else set()
    if not {'size', 'counts'} <= fields:
        raise ValueError(
            f'{name}: expected an RLE with size and counts, found {type(rle).__name__}'
        )
    own = rle['size']
    if not isinstance(own, Sequence) or list(own) != list(size):
        raise ValueError(
            f'{name}: expected an RLE of {size[0]} x {size[1]} (height x width) as its image, '
            f'found {" x ".join(map(str, own)) if isinstance(own, Sequence) else own}'
        )
    counts, pixels = rle['counts'], size[0] * size[1]
    if isinstance(counts, (str, bytes)):
        counts = decompress(counts.encode() if isinstance(counts, str) else counts)
    whole = isinstance(counts, Sequence) and all(type(count) is int for count in counts)
    total = sum(counts) if whole else str(counts)[:100]
    if total != pixels or min(counts, default=0) < 0:
        raise ValueError(
            f'{name}: expected an RLE whose counts add up to {pixels} pixels, found {total}'
        )
    values = np.arange(len(counts)) % 2
    return np.repeat(values, counts).astype(np.uint8).reshape(size, order='F')


def decompress(counts: bytes) -> list[int]:
    """COCO's compressed counts: five bits a character from 48, differences to the last but one.

    Read here and not by pycocotools, which reads past its buffers where counts are damaged. Where
    one has more than `LONGEST_COUNT` bits, none are given.
    """
    values: list[int] = []
    value = shift = 0
    for character in counts:
        code = character - 48
        value |= (code & 0x1F) << shift
        shift += 5
        if shift > LONGEST_COUNT:
            return []
        if not code & 0x20:
            if code & 0x10:
                value -= 1 << shift
            values.append(value + (values[-2] if len(values) > 2 else 0))
            value = shift = 0
    return values
