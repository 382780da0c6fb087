"""What an image asks for, seen before memory and time are spent on it.

Pillow spends none on opening but for WebP, and judges no tile of a TIFF.
"""

from __future__ import annotations

import re
import struct

from PIL import Image

WHOLE_TILE = 2**24  # pixels of a tile that may be larger than its image
TILE_WIDTH, TILE_LENGTH = 322, 323
LARGEST_RLE = 2**16  # pixels of a row that a two-byte command may repeat 255 times
CODESTREAM = b'\xff\x4f\xff\x51'  # of JPEG 2000
END_OF_CODESTREAM = b'\xff\xd9'
CODESTREAM_BYTES = 5  # of a pixel and component of a tile: its number, and what becomes of it
WHOLE_BYTES = 8  # of a pixel: Pillow's and ours
LARGEST_SHARE = 20  # bytes of a pixel, of any image
MOST_TILES = 2**16
MARKER = re.compile(rb'\xff([\xc0-\xcf\xd9-\xfe])')  # of a JPEG, with a length but for the end
END_OF_IMAGE, START_OF_SCAN = b'\xd9', b'\xda'
MOST_SEGMENTS = 2**16
SCANS = 100  # of a JPEG: a few bytes ask for another, which goes over the whole image


class Refused(ValueError):
    """A reason of ours, ready for the user."""


def refuse_canvas(data: bytes, name: str, max_pixels: int) -> None:
    """Refuse a WebP whose canvas is larger than `max_pixels`, which Pillow takes on opening.

    Raises:
        Refused: It is.
    """
    if data[:4] == b'RIFF' and data[8:16] == b'WEBPVP8X' and len(data) >= 30:
        width, height = (int.from_bytes(data[at : at + 3], 'little') + 1 for at in (24, 27))
        refuse_pixels(width, height, name, max_pixels)


def refuse_scans(data: bytes, name: str, *, first: bool = False) -> None:
    """Refuse a JPEG whose decoding would take hours.

    Args:
        data: The file.
        name: Of it.
        first: Whether its first image alone is decoded, of which what follows is no part, such as
            the video of a telephone's moving photograph.

    Raises:
        Refused: It has more than `SCANS`.
    """
    scans = data.count(b'\xff\xda') if data[:2] == b'\xff\xd8' else 0
    if first and scans > SCANS:
        scans = _scans_of_first(data, scans)
    if scans > SCANS:
        raise Refused(f'{name} has {scans} scans, expected at most {SCANS}')


def _scans_of_first(data: bytes, every: int) -> int:
    """Scans up to the end of the first image of a JPEG; `every` if it has too many segments."""
    scans, at = 0, 2
    for _ in range(MOST_SEGMENTS):
        marker = MARKER.search(data, at)
        if marker is None or marker[1] == END_OF_IMAGE:
            return scans
        scans += marker[1] == START_OF_SCAN
        at = marker.end() + max(2, int.from_bytes(data[marker.end() : marker.end() + 2], 'big'))
    return every


def refuse_codestream(data: bytes, name: str, max_pixels: int) -> None:
    """Refuse a JPEG 2000 that needs more memory than an image of `max_pixels` may take.

    OpenJPEG keeps `CODESTREAM_BYTES` for each pixel and component of a tile. What a JP2 file says
    of its size outside the codestream is not what is decoded.

    Raises:
        Refused: It does, or the codestream has another size than the file says.
    """
    start = _codestream_start(data)
    if start is None or len(data) < start + 42:
        return
    if _cut(data, start):
        raise Refused(f'{name} cannot be decoded: its codestream is cut short')
    siz = struct.unpack_from('>8IH', data, start + 8)
    (right, bottom, left, top, tile_width, tile_height, *_, parts) = siz
    width, height = right - left, bottom - top
    refuse_pixels(width, height, name, max_pixels)
    if min(width, height, tile_width, tile_height) < 1:
        raise Refused(f'{name} cannot be decoded: it has no pixels')
    tiles = -(-width // tile_width) * -(-height // tile_height)
    if tiles > MOST_TILES:
        raise Refused(f'{name} has {tiles} tiles, expected at most {MOST_TILES}')
    pixels = min(width, tile_width) * min(height, tile_height)
    needed = CODESTREAM_BYTES * parts * pixels + WHOLE_BYTES * width * height
    if needed > LARGEST_SHARE * max_pixels:
        raise Refused(
            f'{name} has tiles of {min(width, tile_width)} x {min(height, tile_height)} pixels in '
            f'{parts} components, more than are decoded at once'
        )


def _codestream_start(data: bytes) -> int | None:
    """Where the codestream of a JPEG 2000 begins, by itself or in its box; None if nowhere."""
    at = 0
    while data[4:8] == b'jP  ' and at + 8 <= len(data):
        length, kind = struct.unpack_from('>I4s', data, at)
        head = 16 if length == 1 else 8
        if kind == b'jp2c':
            return at + head
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], 'big')
        if length < head:  # to the end of the file, or no box
            return None
        at += length
    return 0 if data[:4] == CODESTREAM else None


def _cut(data: bytes, start: int) -> bool:
    """Whether a codestream of JPEG 2000 ends before it should; OpenJPEG leaves the rest black."""
    length, kind = struct.unpack_from('>I4s', data, start - 8) if start >= 8 else (0, b'')
    if kind == b'jp2c' and length > 1:
        return start - 8 + length > len(data)
    return data[-2:] != END_OF_CODESTREAM


def refuse_pixels(width: int, height: int, name: str, max_pixels: int) -> None:
    """Raises: Refused: More than `max_pixels`."""
    if width * height > max_pixels:
        raise Refused(f'{name} has {width} x {height} pixels, more than max_pixels={max_pixels}')


def refuse_parts(image: Image.Image, name: str) -> None:
    """Refuse an opened image whose parts take far more memory than the whole.

    Raises:
        Refused: They would.
    """
    width, height = image.size
    if image.format == 'TIFF':
        across, down = (image.tag_v2.get(tag, 0) for tag in (TILE_WIDTH, TILE_LENGTH))
        if across * down > max(WHOLE_TILE, width * height * 5 // 4):
            raise Refused(
                f'{name} has tiles of {across} x {down} pixels for an image of {width} x {height}'
            )
    run_length = image.format == 'BMP' and image.info.get('compression') in (1, 2)
    if run_length and width > LARGEST_RLE:
        raise Refused(
            f'{name} has run-length rows of {width} pixels, expected at most {LARGEST_RLE}'
        )
