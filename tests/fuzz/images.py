"""Images of each format, label maps, depth maps, regions."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from fuzz.kind import MIB, Kind
from fuzz.mutate import EXTREMES, SIDES, Draw, damage_bytes
from fuzz.structures import damage_zip
from PIL import Image

from mmseg_siglip.datasets.transforms import LoadAnnotations, LoadDepthAnnotation, LoadRegions
from mmseg_siglip.io.image import FORMATS, read_image
from mmseg_siglip.io.regions_file import encode_regions

SUFFIXES = dict(HEIF='heic', JPEG='jpg', JPEG2000='jp2', TIFF='tif')
DECODED = 1536 * MIB  # the largest image that is decoded has 100 million pixels


def pixels(*shape: int, high: int = 256) -> np.ndarray:
    smooth = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) * 3
    return (smooth[(..., *[None] * (len(shape) - 2))] + np.arange(shape[-1])) % high


def write_images(folder: Path, *, kind: str) -> list[Path]:
    """Colour, grey and with transparency, packed in the ways that a format has."""
    colour = Image.fromarray(pixels(24, 31, 3).astype(np.uint8))
    frames = dict(save_all=True, append_images=[colour.rotate(9)])
    ways = {
        'AVIF': [(colour, dict(speed=10)), (colour.convert('RGBA'), dict(speed=10))],
        'BMP': [(colour, {}), (colour.convert('P'), {})],
        'GIF': [(colour, {}), (colour, frames)],
        'HEIF': [(colour, {}), (colour.convert('RGBA'), {}), (colour, frames)],
        'JPEG2000': [(colour, {}), (colour, dict(no_jp2=True)), (colour, dict(tile_size=(16, 16)))],
        'JPEG': [(colour, {}), (colour.convert('CMYK'), {}), (colour, dict(progressive=True))],
        'PNG': [(colour, {}), (colour.convert('P'), {}), (colour.convert('RGBA'), {})],
        'PPM': [(colour, {}), (colour.convert('1'), {})],
        'TIFF': [(colour, dict(compression=how)) for how in (None, 'tiff_lzw', 'jpeg')],
        'WEBP': [(colour, {}), (colour.convert('RGBA'), dict(lossless=True)), (colour, frames)],
    }[kind]
    paths = []
    for number, (image, options) in enumerate(ways):
        paths.append(folder / f'{number}.{SUFFIXES.get(kind, kind.lower())}')
        image.save(paths[-1], format=kind, **options)
    if kind == 'TIFF':
        paths.append(folder / 'tiles.tif')
        write_tiles(paths[-1])
    return paths


def damage_png(path: Path, draw: Draw) -> str:
    """Any bytes; half of the time with right checksums, so that decoders see them."""
    how = damage_bytes(path, draw)
    data, at = bytearray(path.read_bytes()), 8
    if draw.random() < 0.5:
        return how
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], 'big')
        end = at + 8 + size
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack('>I', zlib.crc32(data[at + 4 : end]))
        at = end + 4
    path.write_bytes(data)
    return f'{how}, right checksums'


def write_tiles(path: Path) -> None:
    """A TIFF of one packed tile of 16 x 16 grey pixels."""
    tile = zlib.compress(bytes(range(256)))
    fields = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: 16, 323: 16, 324: 150}
    fields[325] = len(tile)
    entries = b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in fields.items())
    head = struct.pack('<2sHIH', b'II', 42, 8, len(fields)) + entries + bytes(4)
    path.write_bytes(head.ljust(150, b'\0') + tile)


def damage_tiff(path: Path, draw: Draw) -> str:
    """Kinds, counts and values of its fields, such as sides of image and tiles; or any bytes."""
    if draw.random() < 0.5:
        return damage_bytes(path, draw)
    data = bytearray(path.read_bytes())
    start = int.from_bytes(data[4:8], 'little') + 2
    count = int.from_bytes(data[start - 2 : start], 'little')
    tags = [int.from_bytes(data[start + 12 * n :][:2], 'little') for n in range(count)]
    sides = [tags.index(tag) for tag in draw.choice(((256, 257), (322, 323))) if tag in tags]
    for number in sides or draw.sample(range(count), 2):
        at = start + 12 * number + (8 if sides else draw.choice((2, 4, 8, 8)))
        value = draw.choice(SIDES if sides else (*SIDES, *EXTREMES)) % 2**32
        data[at : at + 4] = value.to_bytes(4, 'little')
    path.write_bytes(data)
    return f'{"sides" if sides else "fields"} of {path.name}'


def damage_webp(path: Path, draw: Draw) -> str:
    """The size of the canvas, where there is one, or any bytes."""
    data = bytearray(path.read_bytes())
    if data[12:16] != b'VP8X' or draw.random() < 0.7:
        return damage_bytes(path, draw)
    side = draw.choice(SIDES)
    for at, value in ((24, side), (27, draw.choice((side, side, draw.choice(SIDES))))):
        data[at : at + 3] = (value - 1).to_bytes(3, 'little')
    path.write_bytes(data)
    return f'canvas of {path.name}'


def write_labels(folder: Path) -> list[Path]:
    small = pixels(20, 30, high=9).astype(np.uint8)
    for name, labels in (('8.png', small), ('16.png', small.astype(np.uint16) * 900)):
        Image.fromarray(labels).save(folder / name)
    return [folder / '8.png', folder / '16.png']


def write_depth(folder: Path) -> list[Path]:
    depth = 1 + pixels(20, 30).astype(np.uint16) * 40
    Image.fromarray(depth).save(folder / 'depth.png')
    Image.fromarray(depth.astype(np.float32)).save(folder / 'depth.tif')
    return [folder / 'depth.png', folder / 'depth.tif']


def write_regions(folder: Path) -> list[Path]:
    regions = pixels(20, 30, high=5)
    (folder / 'a.npz').write_bytes(encode_regions(regions))
    np.save(folder / 'b.npy', np.stack([regions == value for value in range(3)]))
    return [folder / 'a.npz', folder / 'b.npy']


def damage_regions(path: Path, draw: Draw) -> str:
    return (damage_zip if path.suffix == '.npz' else damage_bytes)(path, draw)


def load(key: str, transform: Callable[[dict], dict]) -> Callable[[Path], object]:
    return lambda path: transform({key: str(path)})


ANIMATED = ('GIF', 'HEIF', 'WEBP')  # some of them, here
DAMAGES = dict(PNG=damage_png, TIFF=damage_tiff, WEBP=damage_webp)

KINDS = [
    *(
        Kind(
            f'image {name}',
            2000,
            partial(write_images, kind=name),
            DAMAGES.get(name, damage_bytes),
            partial(read_image, frame=0) if name in ANIMATED else read_image,
            batch=100,
            memory=DECODED,
        )
        for name in FORMATS
    ),
    Kind(
        'label map',
        500,
        write_labels,
        damage_png,
        load('seg_map_path', LoadAnnotations(ignore_index=65535)),
        batch=100,
        memory=DECODED,
    ),
    Kind(
        'depth map',
        500,
        write_depth,
        damage_bytes,
        load('depth_map_path', LoadDepthAnnotation(allow_empty=True)),
        batch=100,
        memory=DECODED,
    ),
    Kind(
        'regions',
        500,
        write_regions,
        damage_regions,
        load('regions_path', LoadRegions()),
        batch=100,
    ),
]
