"""Images of visitors: read up to a size, judged by their header, decoded by our own decoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from mmseg_siglip.io.image import decode_rgb
from mmseg_siglip.io.image_kinds import FORMATS, HEAD, image_kind
from mmseg_siglip.web.limits import Limits, Refusal
from mmseg_siglip.web.results import jpeg

PREVIEW = 1024  # pixels of the longer side
NAME_LETTERS = 60
KINDS = tuple(kind for kind in FORMATS if kind != 'AVIF')
"""What visitors may send; an AVIF can hold more pixels than its header says."""


@dataclass(frozen=True)
class Upload:
    """An image that can be decoded, as it came.

    Attributes:
        data: The file.
        name: What to call it.
        preview: A small JPEG of it, for browsers that do not read its format.
        size: Width and height, pixels, upright.
    """

    data: bytes
    name: str
    preview: bytes
    size: tuple[int, int]

    @property
    def num_bytes(self) -> int:
        return len(self.data) + len(self.preview)


def decode_upload(data: bytes, name: str, limits: Limits) -> np.ndarray:
    """RGB (H, W, 3) uint8, upright.

    Raises:
        Refusal: It is too large, an AVIF, or no image; see `decode_rgb`.
    """
    if len(data) > limits.file_bytes:
        raise Refusal(
            f'{name} has {len(data) / 1e6:.1f} MB, expected at most {limits.file_bytes / 1e6:g}',
            413,
        )
    if image_kind(data[:HEAD]) == 'AVIF':
        raise Refusal(f'{name} is an AVIF image, expected one of {", ".join(KINDS)}', 415)
    try:
        return decode_rgb(data, name, max_pixels=limits.pixels, kinds=KINDS)
    except ValueError as error:
        raise Refusal(str(error)) from None


def take_upload(data: bytes, name: str, limits: Limits) -> Upload:
    """An upload, once it has been decoded.

    Raises:
        Refusal: See `decode_upload`.
    """
    rgb = decode_upload(data, name, limits)
    return Upload(data, name, preview_of(rgb), (rgb.shape[1], rgb.shape[0]))


def preview_of(rgb: np.ndarray) -> bytes:
    """A JPEG of at most `PREVIEW` pixels a side."""
    image = Image.fromarray(rgb)
    image.thumbnail((PREVIEW, PREVIEW))
    return jpeg(image)


def shown_name(name: str | None) -> str:
    """A file's name as an error shows it: the last part, printable, not long."""
    last = (name or '').replace('\\', '/').rpartition('/')[2]
    clean = ''.join(letter for letter in last if letter.isprintable()).strip()
    return clean[:NAME_LETTERS] or 'the image'
