"""All images below a folder, whatever they are called and wherever links lead."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mmseg_siglip.io.failures import Failure
from mmseg_siglip.io.image_kinds import FORMATS, HEAD, SUFFIXES, is_image
from mmseg_siglip.io.regular_file import read_regular

NAMED = 5  # of the files that are no images


@dataclass(frozen=True)
class FoundImages:
    """What a path holds.

    Attributes:
        images: Sorted; paths, or addresses.
        failures: Images that are not read here, and folders that cannot be looked into.
        others: Files that are no images.
    """

    images: tuple[Path | str, ...] = ()
    failures: tuple[Failure, ...] = ()
    others: tuple[Path, ...] = ()


def find_images(path: Path) -> FoundImages:
    """The image itself, or all images below a folder; links to folders are followed.

    Raises:
        ValueError: Nothing is there.
    """
    if path.is_dir():
        found = sorted_out(below(path))
        if not found.images and not found.failures:
            raise ValueError(f'{path}: no images in this folder; looked for {", ".join(FORMATS)}')
        return found
    if not path.exists():
        raise ValueError(f'{path}: no such image or folder')
    found = sorted_out([path])
    return found if found.failures else FoundImages((path,))


class Judged(NamedTuple):
    """A file, and whether it is an image."""

    path: Path
    image: bool


def judged(files: Iterable[Path | Failure]) -> Iterator[Judged | Failure]:
    """Each file as an image, as none, or as one that is not read here."""
    for file in files:
        if isinstance(file, Failure):
            yield file
            continue
        try:
            yield Judged(file, is_image(file.name, partial(read_regular, file, count=HEAD)))
        except (OSError, ValueError) as error:
            if os.path.isfile(file) or file.suffix.lower() in SUFFIXES:
                yield Failure.of(file, error)
            else:  # a pipe, a socket, a link to nowhere
                yield Judged(file, False)


def sorted_out(files: Iterable[Path | Failure]) -> FoundImages:
    """Files as images, failures and others."""
    images, failures, others = [], [], []
    for found in judged(files):
        if isinstance(found, Failure):
            failures.append(found)
        else:
            (images if found.image else others).append(found.path)
    return FoundImages(tuple(sorted(images)), tuple(failures), tuple(sorted(others)))


def below(root: Path) -> Iterator[Path | Failure]:
    """All files below a folder. Of a folder that several links lead to, the files come once.

    What lies in the folder itself comes before what links lead to, so that a new link gives no
    file another name.
    """
    seen = {_identity(parent) for parent in root.resolve().parents}
    links = [root]
    while links:
        folders = [links.pop(0)]
        while folders:
            folder = folders.pop()
            try:
                identity = _identity(folder)
                if identity in seen:
                    continue
                seen.add(identity)
                with os.scandir(folder) as scan:
                    items = sorted(scan, key=lambda item: item.name)
            except OSError as error:
                yield Failure.of(folder, error)
                continue
            deeper = []
            for item in items:
                path = folder / item.name
                if item.is_symlink() and os.path.isdir(path):
                    links.append(path)
                elif item.is_dir(follow_symlinks=False):
                    deeper.append(path)
                else:
                    yield path
            folders.extend(reversed(deeper))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


@dataclass
class PassedOver:
    """Files in folders that are no images: their number, and the first of them."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, path: str) -> None:
        self.count += 1
        if len(self.first) < NAMED:
            self.first.append(path)

    def __str__(self) -> str:
        more = f' and {self.count - len(self.first)} more' if self.count > len(self.first) else ''
        named = ', '.join(self.first)
        return f'{self.count} files are no images and were passed over: {named}{more}'


def passed_over(others: Iterable[Path | str]) -> str:
    """A sentence that names files that are no images."""
    found = PassedOver()
    for path in others:
        found.add(str(path))
    return str(found)
