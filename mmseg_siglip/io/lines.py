"""Texts of any length, line by line."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mmseg_siglip.io.regular_file import open_regular

PART = 2**16  # bytes in memory at a time
LONGEST_LINE = 2**20  # characters
_CONTROL = re.compile(r'[\0-\x08\x0e-\x1f\x7f]')


def lines_of_text(path: Path, kind: str) -> Iterator[str]:
    """The lines of a text in UTF-8 that are not blank, without the blanks around them.

    Args:
        path: The file; a byte order mark is passed over.
        kind: What it should be, for a message: a list of paths.

    Raises:
        ValueError: It is no such text, or has a line of more than `LONGEST_LINE` characters.
        OSError: It cannot be read.
    """
    try:
        file = open_regular(path)
    except ValueError as error:
        raise ValueError(f'{path} {error}') from None
    rest = ''
    with file:
        try:
            for text in decoded(iter(partial(file.read, PART), b'')):
                *lines, rest = f'{rest}{text}.'.splitlines()
                rest = rest[:-1]
                if max(map(len, [*lines, rest])) > LONGEST_LINE:
                    raise ValueError(f'a line of more than {LONGEST_LINE} characters')
                yield from filter(None, map(str.strip, lines))
        except ValueError as error:
            raise ValueError(f'{path}: expected {kind} in UTF-8, found {error}') from None
    if rest.strip():
        yield rest.strip()


def decoded(parts: Iterator[bytes]) -> Iterator[str]:
    """Text of bytes in UTF-8.

    Raises:
        ValueError: It is none, or has characters that no text has; the message says what was found.
    """
    decoder, read = codecs.getincrementaldecoder('utf-8')(), 0
    for part in parts:
        yield text_of(decoder, part, read)
        read += len(part)
    text_of(decoder, b'', read)


def text_of(decoder: codecs.IncrementalDecoder, part: bytes, read: int) -> str:
    begun = len(decoder.getstate()[0])
    try:
        text = decoder.decode(part, final=not part)
    except UnicodeDecodeError as error:
        raise ValueError(f'{error.reason} at byte {read - begun + error.start}') from None
    control = _CONTROL.search(text)
    if control is not None:
        raise ValueError(f'the character {control[0]!r}')
    return text if read else text.removeprefix('\ufeff')
