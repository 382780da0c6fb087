"""What labelling is given: tar files, folders and lists of images."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
from fuzz.images import DECODED, write_images
from fuzz.kind import Kind
from fuzz.mutate import Draw, damage_bytes, damage_folder, damage_place, damage_text
from fuzz.structures import damage_tar

from mmseg_siglip.io.image import decode_rgb
from mmseg_siglip.labelling.listing import Listing
from mmseg_siglip.labelling.rows import label_members
from mmseg_siglip.later import Later

SPARSE = 40 * 2**30


def read_all(path: Path) -> None:
    """As labelling reads it: what fails of one image is no exception, but a row of its own."""
    rows = [
        row
        for shard in Listing([str(path)]).shards()
        for row in label_members(shard.members(), Decoder(), batch_size=4, threads=1)
    ]
    for row in rows:
        if row.get('failure') is not None:
            raise ValueError(f'{row["path"]}: {row["failure"]}')


class Decoder:
    """A labeller that finds nothing."""

    @staticmethod
    def decode(data: bytes, place: str) -> np.ndarray:
        return decode_rgb(data, place)

    @staticmethod
    def begin(images: list) -> Later[list]:
        return Later.now(images)

    @staticmethod
    def rows(found: np.ndarray) -> list:
        return [{}]


def write_tars(folder: Path) -> list[Path]:
    for name, style in (('gnu', tarfile.GNU_FORMAT), ('pax', tarfile.PAX_FORMAT)):
        with tarfile.open(folder / f'{name}.tar', 'w', format=style) as archive:
            for key in ('a/1.png', 'a/2.png', f'{"long" * 40}.png', 'a/1.json'):
                data = b'{}' if key.endswith('json') else encoded(folder)
                info = tarfile.TarInfo(key)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return [folder / 'gnu.tar', folder / 'pax.tar']


def encoded(folder: Path) -> bytes:
    first = write_images(folder, kind='PNG')[0]
    return first.read_bytes()


def write_folder(folder: Path) -> list[Path]:
    (folder / 'images/deep').mkdir(parents=True)
    write_images(folder / 'images', kind='PNG')
    write_images(folder / 'images/deep', kind='JPEG')
    return [folder / 'images']


def damage_name(path: Path, draw: Draw) -> str:
    """Another name; or a folder beside it that its label map's file would have to be."""
    if draw.random() < 0.2:
        folder = path.with_name(f'{path.name}.png')
        folder.mkdir(exist_ok=True)
        shutil.copyfile(path, folder / 'y.png')
        return f'{folder.name}/y.png beside {path.name}'
    names = ('a' * 250 + '.png', 'x\n.png', 'ä\u0308.png', ' .png', '-o.png', '\udcff.png', 'b.PNG')
    other = path.with_name(draw.choice(names))
    os.replace(path, other)
    return f'{other.name!r} for {path.name}'


def damage_size(path: Path, draw: Draw) -> str:
    """Far larger than memory, and nothing in it."""
    with path.open('r+b') as file:
        file.truncate(SPARSE)
    return f'{path.name} of {SPARSE} bytes'


def write_list(folder: Path) -> list[Path]:
    images = write_images(folder, kind='PNG')
    (folder / 'list.txt').write_text(''.join(f'{path}\n' for path in images))
    return [folder / 'list.txt']


KINDS = [
    Kind('archive', 1000, write_tars, damage_tar, read_all, batch=20, memory=DECODED),
    Kind(
        'folder of images',
        300,
        write_folder,
        damage_folder(
            [
                ('*.*', damage_bytes),
                ('*.*', damage_place),
                ('*.*', damage_place),
                ('*.*', damage_name),
                ('*.*', damage_size),
            ]
        ),
        read_all,
        memory=DECODED,
    ),
    Kind(
        'list of images',
        300,
        write_list,
        damage_text,
        read_all,
        named=('/', 'list.txt'),  # of the list, or a path in it
        batch=20,
        memory=DECODED,
    ),
]
