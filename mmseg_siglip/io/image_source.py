"""Where images come from: folders, lists of paths, and tar shards.

Nothing is decoded or unpacked here: an entry knows its bytes, and reads them when asked to. Tar
shards are those of WebDataset (https://github.com/webdataset/webdataset), plain tar files with
members like ``key.jpg``; other members are passed over.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from mmseg_siglip.io.failures import Failure
from mmseg_siglip.io.image_folder import find_images
from mmseg_siglip.io.image_kinds import FORMATS, HEAD, is_image
from mmseg_siglip.io.regular_file import read_regular, refuse_size

LONGEST_NAME = 240  # bytes of one part of a path, so that a suffix can be added
LONGEST_PATH = 3800  # bytes of a path below the output folder, so that the whole has up to 4096
_RANGE = re.compile(r'\{(\d+)\.\.(\d+)\}')


@dataclass(frozen=True)
class ImageEntry:
    """One image.

    Attributes:
        name: Relative path, unique within a source; what is made of the image is named after it.
        file: The image, or the tar that holds it.
        span: First byte and number of bytes in the tar; None for a file of its own.
    """

    name: str
    file: str
    span: tuple[int, int] | None = None

    @property
    def place(self) -> str:
        """What to call it in a message."""
        return self.file if self.span is None else f'{self.file}: {self.name.split("/", 1)[1]}'

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


@dataclass(frozen=True)
class ImageSource:
    """All images that some arguments name.

    Attributes:
        entries: Sorted by name.
        failures: Broken tar files, images that are not read here, and names that are no place for
            an output.
        roots: Folders and lists that the names are relative to, sorted.
        others: Files in folders that are no images.
    """

    entries: tuple[ImageEntry, ...]
    failures: tuple[Failure, ...]
    roots: tuple[str, ...]
    others: tuple[str, ...] = ()

    @classmethod
    def open(cls, arguments: Sequence[str]) -> ImageSource:
        """List the images.

        Args:
            arguments: Folders (searched through, links followed), images, tar files, numbered tar
                files as ``shard-{000..003}.tar``, and other files, which are lists: one path a
                line, relative to the list. What several of them name counts once.

        Raises:
            ValueError: Something is not there, no image is found, or two have one name.
        """
        found: dict[str, ImageEntry] = {}
        places = set()
        failures: list[Failure] = []
        others: list[str] = []
        roots = set()
        for path in (Path(text) for argument in arguments for text in expand(argument)):
            root, items = _listing(path)
            roots.add(str(root.resolve()))
            for item in items:
                if isinstance(item, str):
                    others.append(item)
                    continue
                refusal = refuse_name(item) if isinstance(item, ImageEntry) else item
                if refusal is not None:
                    failures.append(refusal)
                    continue
                place = (os.path.abspath(item.file), item.span)
                if place in places:
                    continue
                places.add(place)
                other = found.setdefault(item.name, item)
                if other.file != item.file:
                    raise ValueError(f'{item.file} and {other.file} have one name: {item.name}')
                found[item.name] = item  # of a member that a tar holds twice, the last counts
        if not found and not failures:
            raise ValueError(
                f'{" ".join(arguments)}: no images found; looked for {", ".join(FORMATS)}'
            )
        entries = tuple(found[name] for name in sorted(found))
        return cls(entries, tuple(failures), tuple(sorted(roots)), tuple(others))

    def placed(self, suffixes: Sequence[str]) -> tuple[list[ImageEntry], list[Failure]]:
        """Images whose output has a place, and all that cannot have one.

        Args:
            suffixes: Of the files that are written for an image, after its name. No image can be
                saved below such a file, as ``x.jpg.png/y.jpg`` beside ``x.jpg``.
        """
        files = {f'{entry.name}{suffix}' for entry in self.entries for suffix in suffixes}
        entries, failures = [], list(self.failures)
        for entry in self.entries:
            below = [str(folder) for folder in PurePosixPath(entry.name).parents]
            if files.isdisjoint(below):
                entries.append(entry)
                continue
            (file, *_) = files.intersection(below)
            failures.append(Failure(entry.place, f'would be saved below {file}, which is a file'))
        return entries, failures


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
    if name.is_absolute() or '..' in name.parts or '\0' in entry.name:
        return Failure(entry.place, 'has a name that leads out of the folder')
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in name.parts):
        return Failure(entry.place, f'has a name of more than {LONGEST_NAME} bytes')
    if len(os.fsencode(entry.name)) > LONGEST_PATH:
        return Failure(entry.place, f'has a path of more than {LONGEST_PATH} bytes')
    return None


Item = ImageEntry | Failure | str
"""An image, what is none though it should be, or the path of what is none."""


def _listing(path: Path) -> tuple[Path, Iterator[Item]]:
    """What the names of images are relative to, and what there is."""
    if path.is_dir():
        return path, _in_folder(path)
    if not path.is_file():
        raise ValueError(f'{path}: no such folder, image, list or tar file')
    if path.suffix == '.tar':
        return path.parent, _members(path)
    try:
        if is_image(path.name, partial(read_regular, path, count=HEAD)):
            return path.parent, iter([ImageEntry(path.name, str(path))])
    except ValueError as error:
        return path.parent, iter([Failure.of(path, error)])
    return path, _listed(path)


def _in_folder(path: Path) -> Iterator[Item]:
    found = find_images(path)
    for file in found.images:
        yield ImageEntry(file.relative_to(path).as_posix(), str(file))
    yield from found.failures
    yield from map(str, found.others)


class _Archive(io.FileIO):
    """A tar file whose headers cannot ask for more bytes than an image may have."""

    def read(self, size: int = -1) -> bytes:
        refuse_size(size)
        return super().read(size)


def _members(path: Path) -> Iterator[Item]:
    try:
        with _Archive(path) as file, tarfile.open(fileobj=file, mode='r:') as tar:
            for member in tar:
                name = one_name(member.name)
                place = f'{path}: {name}'
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
                    yield Failure.of(place, error)
                    continue
                if taken:
                    span = (member.offset_data, member.size)
                    yield ImageEntry(f'{path.stem}/{name}', str(path), span)
    except Exception as error:  # tarfile raises nearly every built-in type on bad bytes
        reason = ' '.join(str(error).split()) or type(error).__name__
        yield Failure(str(path), f'is not a whole, uncompressed tar file: {reason}')


def _listed(path: Path) -> Iterator[ImageEntry]:
    try:
        text = read_regular(path).decode('utf-8-sig')
    except UnicodeDecodeError as error:
        reason = f'{error.reason} at byte {error.start}'
        raise ValueError(f'{path}: expected a list of paths in UTF-8, found {reason}') from None
    except ValueError as error:
        raise ValueError(f'{path} {error}') from None
    control = re.search(r'[\0-\x08\x0e-\x1f\x7f]', text)
    if control is not None:
        raise ValueError(
            f'{path}: expected a list of paths in UTF-8, found the character {control[0]!r}'
        )
    folder = os.path.abspath(path.parent)
    for line in dict.fromkeys(line.strip() for line in text.splitlines()):
        if line:
            file = os.path.normpath(os.path.join(folder, line))
            name = os.path.relpath(file, folder) if file.startswith(f'{folder}/') else file[1:]
            yield ImageEntry(name, file)
