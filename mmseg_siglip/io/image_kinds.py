"""What kind of image a file is: by its suffix, or by how it begins."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from PIL import features


def _register_heif() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


FORMATS = (
    *(('AVIF',) if features.check('avif') else ()),
    *('BMP', 'GIF', 'JPEG'),
    *(('JPEG2000',) if features.check('jpg_2000') else ()),
    *('PNG', 'PPM', 'TIFF', 'WEBP'),
    *(('HEIF',) if _register_heif() else ()),
)
"""What is read here, by Pillow's names."""

HEIF_SUFFIXES = ('.heic', '.heif', '.hif')
SUFFIXES = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.webp', '.tif', '.tiff', '.gif'),
    *('.ppm', '.pgm', '.pbm', '.pnm', '.avif', '.apng'),
    *(('.jp2', '.j2k', '.jpf', '.jpx', '.j2c', '.jpc') if 'JPEG2000' in FORMATS else ()),
    *HEIF_SUFFIXES,
)
HEAD = 64  # bytes that tell kinds apart

_HEADS = {
    'JPEG': rb'\xff\xd8\xff',
    'PNG': rb'\x89PNG\r\n\x1a\n',
    'GIF': rb'GIF8[79]a',
    'BMP': rb'BM.{4}\0{4}',
    'TIFF': rb'II[*+]\0|MM\0[*+]',
    'WEBP': rb'RIFF.{4}WEBP',
    'PPM': rb'P[1-6]\s+[\d#]',
    'AVIF': rb'.{4}ftyp(avi[fs]|mi[fa]1.*avif|msf1.*avis)',
    'HEIF': rb'.{4}ftyp(he[iv][cxms]|mif1|msf1)',
    'JPEG XL': rb'\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n',
    'JPEG2000': rb'\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51',
    'Photoshop': rb'8BPS\0[\1\2]',
    'camera raw': rb'.{4}ftypcrx |FUJIFILMCCD-RAW',
}
_HEADS = {kind: re.compile(head, re.DOTALL) for kind, head in _HEADS.items()}


def image_kind(head: bytes) -> str | None:
    """The kind of image that begins with `HEAD` bytes; of those that are not read here, too."""
    return next((kind for kind, pattern in _HEADS.items() if pattern.match(head)), None)


def why_unread(kind: str | None) -> str | None:
    """Why images of this kind are not read here, to follow a file's name; None if they are."""
    if kind in FORMATS:
        return None
    if kind is None:
        return f'is not an image of a known kind ({", ".join(FORMATS)})'
    if kind == 'HEIF':
        return 'is a HEIC photograph, which needs pillow-heif (the extra heif)'
    if kind == 'AVIF':
        return 'is an AVIF image, which needs a Pillow with AVIF'
    if kind == 'JPEG2000':
        return 'is a JPEG 2000 image, which needs a Pillow with OpenJPEG'
    return f'is a {kind} image, expected one of {", ".join(FORMATS)}'


def is_image(name: str, read_head: Callable[[], bytes]) -> bool:
    """Whether a file is an image: by its suffix, or where that says nothing, by what it holds.

    Args:
        name: Of the file.
        read_head: Its first `HEAD` bytes, if they are asked for.

    Raises:
        ValueError: It is one that is not read here; the message follows the file's name.
        OSError: Its beginning cannot be read.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in SUFFIXES and suffix not in HEIF_SUFFIXES:
        return True
    kind = image_kind(read_head())
    if suffix in HEIF_SUFFIXES:
        kind = kind or 'HEIF'
    elif kind == 'TIFF' and suffix:
        raise ValueError(f'is a TIFF by its first bytes, expected .tif, found {suffix}')
    if kind is None:
        return False
    reason = why_unread(kind)
    if reason is not None:
        raise ValueError(reason)
    return True
