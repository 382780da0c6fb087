"""Where images come from: folders, lists of paths, and tar shards.

Nothing is decoded or unpacked here: an entry knows its bytes, and reads them when asked to. Tar
shards are those of WebDataset (https://github.com/webdataset/webdataset), plain tar files with
members like ``key.jpg``; other members are passed over.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.gif', '.ppm')
LONGEST_NAME = 240  # bytes of one part of a path, so that a suffix can be added
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
            OSError: The file cannot be read.
        """
        with open(self.file, 'rb') as file:
            if self.span is None:
                return file.read()
            file.seek(self.span[0])
            return file.read(self.span[1])


@dataclass(frozen=True)
class Failure:
    """What could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class ImageSource:
    """All images that some arguments name.

    Attributes:
        entries: Sorted by name.
        failures: Broken tar files and names that are no place for an output.
        roots: Folders and lists that the names are relative to, sorted.
    """

    entries: tuple[ImageEntry, ...]
    failures: tuple[Failure, ...]
    roots: tuple[str, ...]

    @classmethod
    def open(cls, arguments: Sequence[str]) -> ImageSource:
        """List the images.

        Args:
            arguments: Folders (searched through), images, tar files, numbered tar files as
                ``shard-{000..003}.tar``, and other files, which are lists: one path a line,
                relative to the list. What several of them name counts once.

        Raises:
            ValueError: Something is not there, no image is found, or two have one name.
        """
        found: dict[str, ImageEntry] = {}
        places = set()
        failures: list[Failure] = []
        roots = set()
        for path in (Path(text) for argument in arguments for text in expand(argument)):
            for item in _entries(path):
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
            roots.add(str(_root(path)))
        if not found and not failures:
            raise ValueError(
                f'{" ".join(arguments)}: no images found; looked for {", ".join(SUFFIXES)}'
            )
        entries = tuple(found[name] for name in sorted(found))
        return cls(entries, tuple(failures), tuple(sorted(roots)))


def is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def find_images(path: Path) -> list[Path]:
    """The image itself, or all images below a folder, sorted.

    Raises:
        ValueError: Nothing is there.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f'{path}: no such image or folder')
    found = sorted(file for file in path.rglob('*') if file.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f'{path}: no images in this folder; looked for {", ".join(SUFFIXES)}')
    return found


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
        return Failure(entry.place, 'the name leads out of the folder')
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in name.parts):
        return Failure(entry.place, f'a name of more than {LONGEST_NAME} bytes')
    return None


def _root(path: Path) -> Path:
    of_its_own = path.is_dir() or not (is_image(path.name) or path.suffix == '.tar')
    return (path if of_its_own else path.parent).resolve()


def _entries(path: Path) -> Iterator[ImageEntry | Failure]:
    if path.is_dir():
        for file in find_images(path):
            yield ImageEntry(file.relative_to(path).as_posix(), str(file))
    elif not path.is_file():
        raise ValueError(f'{path}: no such folder, image, list or tar file')
    elif path.suffix == '.tar':
        yield from _members(path)
    elif is_image(path.name):
        yield ImageEntry(path.name, str(path))
    else:
        yield from _listed(path)


def _members(path: Path) -> Iterator[ImageEntry | Failure]:
    try:
        with tarfile.open(path, 'r:') as tar:
            for member in tar:
                if member.isfile() and is_image(member.name):
                    yield ImageEntry(
                        f'{path.stem}/{member.name.removeprefix("./")}',
                        str(path),
                        (member.offset_data, member.size),
                    )
    except (tarfile.TarError, OSError) as error:
        yield Failure(str(path), f'not a whole, uncompressed tar file: {error}')


def _listed(path: Path) -> Iterator[ImageEntry]:
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{path}: expected a list of paths in UTF-8, found {error.reason} at byte {error.start}'
        ) from None
    folder = os.path.abspath(path.parent)
    for line in dict.fromkeys(line.strip() for line in lines):
        if line:
            file = os.path.normpath(os.path.join(folder, line))
            name = os.path.relpath(file, folder) if file.startswith(f'{folder}/') else file[1:]
            yield ImageEntry(name, file)
