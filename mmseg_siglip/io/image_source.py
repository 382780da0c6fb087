"""Where images come from: folders, lists of paths, and tars.

Nothing is decoded or unpacked here: an entry knows its bytes, and reads them when asked to. Tars
are those of WebDataset (https://github.com/webdataset/webdataset), plain tar files with
members like ``key.jpg``; other members are passed over.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from mmseg_siglip.io.failures import Failure
from mmseg_siglip.io.image_folder import below, judged
from mmseg_siglip.io.image_kinds import HEAD, is_image
from mmseg_siglip.io.lines import lines_of_text
from mmseg_siglip.io.regular_file import read_regular, refuse_size

LONGEST_NAME = 240  # bytes of one part of a path, so that a suffix can be added
LONGEST_PATH = 3800  # bytes of a path below the output folder, so that the whole has up to 4096
PIECE = 2**20  # bytes that are read at a time of what follows a tar's last member
_RANGE = re.compile(r'\{(\d+)\.\.(\d+)\}')


@dataclass(frozen=True)
class ImageEntry:
    """One image.

    Attributes:
        name: Relative path, unique within a source; what is made of the image is named after it.
        file: The image, or the tar that holds it.
        span: First byte and number of bytes in the tar; None for a file of its own.
        shown: What to call the file in a message; by default its path.
    """

    name: str
    file: str
    span: tuple[int, int] | None = None
    shown: str | None = None

    @property
    def place(self) -> str:
        """What to call it in a message."""
        shown = self.shown or self.file
        return shown if self.span is None else f'{shown}: {self.name.split("/", 1)[1]}'

    def read(self) -> bytes:
        """The encoded image.

        Raises:
            ValueError: It cannot be read, or the tar ends before it does; the message follows
                `place`.
        """
        start, count = self.span or (0, None)
        try:
            data = read_regular(self.file, start=start, count=count)
        except OSError as error:
            raise ValueError(error.strerror or str(error)) from None
        if len(data) < (count or 0):
            raise ValueError(f'is cut short: expected {count} bytes, found {len(data)}')
        return data


def one_name(name: str) -> str:
    """``./a//b/./c`` to ``a/b/c``, the one name of such a path."""
    return str(PurePosixPath(name))


def expand(pattern: str) -> Iterator[str]:
    """``s-{08..10}.tar`` to s-08.tar, s-09.tar, s-10.tar; a path without a range as it is.

    Raises:
        ValueError: A range goes down.
    """
    match = _RANGE.search(pattern)
    if match is None:
        yield pattern
        return
    first, last = match.groups()
    if int(first) > int(last):
        raise ValueError(f'{pattern}: expected a range that goes up, found {match[0]}')
    for number in range(int(first), int(last) + 1):
        text = f'{number:0{len(first)}d}'
        yield from expand(pattern[: match.start()] + text + pattern[match.end() :])


def refuse_name(entry: ImageEntry) -> Failure | None:
    """Why a name cannot become a path below another folder, if it cannot."""
    name = PurePosixPath(entry.name)
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return Failure(entry.place, 'has a name that is no UTF-8')
    if name.is_absolute() or '..' in name.parts or '\0' in entry.name:
        return Failure(entry.place, 'has a name that leads out of the folder')
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in name.parts):
        return Failure(entry.place, f'has a name of more than {LONGEST_NAME} bytes')
    if len(os.fsencode(entry.name)) > LONGEST_PATH:
        return Failure(entry.place, f'has a path of more than {LONGEST_PATH} bytes')
    return None


Item = ImageEntry | Failure | str
"""An image, what is none though it should be, or the path of what is none."""


def listing(path: Path) -> tuple[Path, Iterator[Item]]:
    """What the names of images are relative to, and what there is; of a tar its members.

    Args:
        path: A folder (searched through, links followed), an image, a tar, or another file, which
            is a list: one path a line, relative to the list.

    Raises:
        ValueError: Nothing is there, or a list is no text.
    """
    if path.is_dir():
        return path, in_folder(path)
    if not path.is_file():
        raise ValueError(f'{path}: no such folder, image, list or tar file')
    if path.suffix == '.tar':
        return path.parent, iter(tar_members(path))
    try:
        if is_image(path.name, partial(read_regular, path, count=HEAD)):
            return path.parent, iter([ImageEntry(path.name, str(path))])
    except ValueError as error:
        return path.parent, iter([Failure.of(path, error)])
    return path, listed(path)


def in_folder(path: Path) -> Iterator[Item]:
    """What lies below a folder, one directory in memory at a time."""
    for file in judged(below(path)):
        if isinstance(file, Failure):
            yield file
        elif file.image:
            yield ImageEntry(file.path.relative_to(path).as_posix(), str(file.path))
        else:
            yield str(file.path)


class _Archive(io.FileIO):
    """A tar file whose headers cannot ask for more bytes than an image may have."""

    def read(self, size: int = -1) -> bytes:
        refuse_size(size)
        return super().read(size)


def tar_members(
    path: str | Path, *, shown: str | None = None, stem: str | None = None
) -> list[ImageEntry | Failure]:
    """The images of a tar in their order; of a name that it holds twice, the last counts.

    Args:
        path: The file.
        shown: What to call it in a message.
        stem: First part of the images' names; by default the file's name without its suffix.
    """
    found: dict[str, ImageEntry | Failure] = {}
    shown, stem = shown or str(path), stem or Path(path).stem
    try:
        with _Archive(path) as file, tarfile.open(fileobj=file, mode='r:') as tar:
            for member in tar:
                name = one_name(member.name)
                place = f'{shown}: {name}'
                if not member.isfile() or not name.strip('.'):
                    continue
                if member.size < 0:
                    raise tarfile.ReadError(f'a size of {member.size} bytes')
                read_head = partial(
                    read_regular, path, start=member.offset_data, count=min(HEAD, member.size)
                )
                try:
                    refuse_size(member.size)
                    taken = is_image(name, read_head)
                except ValueError as error:
                    found[place] = Failure.of(place, error)
                    continue
                if taken:
                    span = (member.offset_data, member.size)
                    found.pop(name, None)  # so that the last keeps its place in the order
                    found[name] = ImageEntry(f'{stem}/{name}', str(path), span, shown)
            _check_end(path, tar.offset)
    except Exception as error:  # tarfile raises nearly every built-in type on bad bytes
        reason = ' '.join(str(error).split()) or type(error).__name__
        found[shown] = Failure(shown, f'is not a whole, uncompressed tar file: {reason}')
    return list(found.values())


def _check_end(path: str | Path, start: int) -> None:
    """Look at what follows the last member of a tar.

    Raises:
        tarfile.ReadError: It is not an empty block and nothing but zeros: ``tarfile`` takes a
            header that is cut or broken for the end, too, and passes over a second tar.
    """
    block = read_regular(path, start=start, count=tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE or block.strip(b'\0'):
        raise tarfile.ReadError('expected an empty block at its end, found none')
    while piece := read_regular(path, start=start, count=PIECE):
        if piece.strip(b'\0'):
            raise tarfile.ReadError('expected nothing behind its empty blocks, found more')
        start += len(piece)


def listed(path: Path) -> Iterator[ImageEntry]:
    """What a list names, in its order and as often as it does, some lines in memory at a time."""
    folder = os.path.abspath(path.parent)
    for line in lines_of_text(path, 'a list of paths'):
        file = os.path.normpath(os.path.join(folder, line))
        inside = file.startswith(f'{folder}/')
        yield ImageEntry(file[len(folder) + 1 :] if inside else file[1:], file)
