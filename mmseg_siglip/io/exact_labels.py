"""Label maps in files that do not hold them exactly."""

from __future__ import annotations

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
