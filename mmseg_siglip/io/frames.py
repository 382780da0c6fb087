"""Files that hold several pictures: animations, sequences, pages. Never silently the first.

MPO and HEIF are containers around one photograph, which they name; what lies beside it is a
preview, another exposure or the other eye. Of these the named picture counts.
"""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

from mmseg_siglip.io.image_claims import Refused

MOST_COUNTED = 100
PRIMARY = ('HEIF', 'MPO')
NEW_SUBFILE_TYPE, SUBFILE_TYPE = 254, 255  # tags of TIFF
SMALLER_OR_MASK, SMALLER = 0b101, 2


def choose_frame(
    image: Image.Image, name: str, frame: int | None = None, data: bytes | None = None
) -> None:
    """Turn an opened image to the picture that is meant.

    Args:
        image: Opened, nothing decoded.
        name: What to call it in an error.
        frame: Which picture, from 0; by default the only one.
        data: The file, if there is one.

    Raises:
        Refused: There are several and `frame` says nothing, or there is none of that number.
    """
    if frame is None:
        if image.format in PRIMARY:
            return
        count = count_frames(image, data)
        if count > 1:
            many = f'more than {MOST_COUNTED}' if count > MOST_COUNTED else count
            raise Refused(
                f'{name} has {many} frames or pages, expected one picture: choose one, counted '
                'from 0, by frame= or --frame, or save it as a file of its own'
            )
        frame = 0
    try:
        if image.format != 'TIFF':
            image.seek(frame)
        elif not any(number == frame for number, _ in enumerate(_pages(image))):
            raise EOFError
    except EOFError:
        last = count_frames(image, data) - 1
        many = f'0 to {last}' if last < MOST_COUNTED else 'fewer'
        raise Refused(f'{name}: frame: expected {many}, found {frame}') from None


def count_frames(image: Image.Image, data: bytes | None = None) -> int:
    """How many pictures an opened image holds; one more than `MOST_COUNTED` if even more."""
    if image.format == 'TIFF':
        count = sum(1 for _, _ in zip(range(MOST_COUNTED + 1), _pages(image), strict=False))
        image.seek(0)
        return count
    if image.format == 'GIF' and data is not None:
        return max(1, _frames_of_gif(data))
    return min(getattr(image, 'n_frames', 1), MOST_COUNTED + 1)


def _pages(image: Image.Image) -> Iterator[int]:
    """Turns a TIFF to each of its pictures in turn, past smaller copies and masks of these.

    Of a file of such alone, the first page is the picture.
    """
    found = position = 0
    while True:
        try:
            image.seek(position)
        except EOFError:
            break
        except Exception:  # what follows the last picture is no page
            if not position:
                raise
            break
        tags = image.tag_v2
        beside = tags.get(NEW_SUBFILE_TYPE, 0) & SMALLER_OR_MASK
        if not beside and tags.get(SUBFILE_TYPE) != SMALLER:
            found += 1
            yield position
        position += 1
        if position > 100 * MOST_COUNTED:
            break
    if not found:
        image.seek(0)
        yield 0


def _frames_of_gif(data: bytes) -> int:
    """Counts images, without decoding one, up to one more than `MOST_COUNTED`."""
    found, at, end = 0, 13 + _bytes_of_table(data, 10), len(data)
    while at < end and found <= MOST_COUNTED:
        if data[at] == 0x2C:
            found += 1
            at = _behind_blocks(data, at + 11 + _bytes_of_table(data, at + 9))
        elif data[at] == 0x21:
            at = _behind_blocks(data, at + 2)
        elif data[at] == 0x3B:
            break
        else:
            at += 1
    return found


def _bytes_of_table(data: bytes, at: int) -> int:
    """Of the colour table that the flags at that place announce."""
    flags = data[at] if at < len(data) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _behind_blocks(data: bytes, at: int) -> int:
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1
