"""Label maps in files that do not hold them exactly."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

JPEG, PNG = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'
NOISE = 32
"""What compression adds to 0, at most."""


def is_jpeg(data: bytes) -> bool:
    return data.startswith(JPEG)


def refuse_inexact(data: bytes, name: str) -> None:
    """Refuse a label map whose values are not what was drawn.

    Args:
        data: Of the file.
        name: Of the file.

    Raises:
        ValueError: It is a JPEG, which changes values near edges, or grey of 2 or 4 bits, whose
            label 1 readers scale to 85 or 17.
    """
    if is_jpeg(data):
        raise ValueError(
            f'{name} is a JPEG, whose compression changes labels: expected a PNG or TIFF, made '
            'from what was drawn'
        )
    if data.startswith(PNG) and len(data) > 25 and data[25] == 0 and data[24] in (2, 4):
        raise ValueError(
            f'{name} has {data[24]} bits a pixel, so that label 1 may be read as '
            f'{255 // (2 ** data[24] - 1)}: expected 8 bits'
        )


def refuse_transparent(data: bytes, name: str) -> None:
    """Refuse a label map or mask of several channels whose transparent pixels would be read as
    white.

    Args:
        data: Of the file, which was decoded before.
        name: Of the file.

    Raises:
        ValueError: It has some.
    """
    with Image.open(io.BytesIO(data)) as image:
        if not image.has_transparency_data:
            return
        lowest, _ = image.convert('RGBA').getchannel('A').getextrema()
    if lowest < 255:
        raise ValueError(
            f'{name} has transparent pixels, which are read as white: expected a file without '
            'transparency'
        )


def refuse_inverted(data: bytes, name: str) -> None:
    """Refuse a mask with a palette by which what lies above 0 looks darker than 0, as programs that
    order colours by how often they occur write it.

    Args:
        data: Of the file, which was decoded before.
        name: Of the file.

    Raises:
        ValueError: It has one.
    """
    with Image.open(io.BytesIO(data)) as image:
        if image.mode != 'P':
            return
        palette = np.reshape(image.getpalette('RGB') or [], (-1, 3)).sum(1)
        used = [index for _, index in image.getcolors()]
    if any(0 < index < len(palette) and palette[index] < palette[0] for index in used):
        raise ValueError(
            f'{name} has a palette whose first colour is not its darkest, so that index and colour '
            'contradict each other: expected a mask of grey values'
        )
