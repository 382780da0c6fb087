"""What the images of a command line are: files, folders, patterns, addresses."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path

from mmseg_siglip.cli.common import refuse_inside
from mmseg_siglip.io.image_folder import FoundImages, find_images, sorted_out
from mmseg_siglip.io.web_image import is_address, name_at

ImageAt = Path | str
"""A file, or an address as it was typed."""


def images_of(arguments: Iterable[str | Path]) -> dict[ImageAt, FoundImages]:
    """What each argument holds; of a pattern, under the folder that it begins with.

    Args:
        arguments: Images, folders, patterns such as ``photos/**/*.jpg``, addresses.

    Raises:
        ValueError: One leads to nothing.
    """
    found: dict[ImageAt, FoundImages] = {}
    for argument in arguments:
        if is_address(argument):
            found[argument] = FoundImages((argument,))
        elif not is_pattern(argument):
            found[Path(argument)] = united([found.get(Path(argument)), find_images(Path(argument))])
        else:
            root = root_of(argument)
            found[root] = united([found.get(root), *map(found_at, matches(argument))])
    return found


def is_pattern(argument: str | Path) -> bool:
    """Whether this is no file's name, and has one of ``*?[``."""
    return glob.has_magic(str(argument)) and not os.path.lexists(argument)


def root_of(pattern: str | Path) -> Path:
    """The folder that all matches of a pattern lie below."""
    return Path(*takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))


def matches(pattern: str | Path) -> list[Path]:
    """Raises: ValueError: There is none."""
    found = [Path(path) for path in sorted(glob.glob(str(pattern), recursive=True))]
    files = [path for path in found if not path.is_dir()]
    if not found:
        raise ValueError(f'{pattern}: expected files of such names, found none')
    return files or found  # ``**`` and ``*`` match folders beside what lies in them


def found_at(match: Path) -> FoundImages:
    """What a match of a pattern holds; a file that is no image is passed over."""
    return find_images(match) if match.is_dir() else sorted_out([match])


def united(parts: Sequence[FoundImages | None]) -> FoundImages:
    """Several findings as one, each thing once."""
    given = [part for part in parts if part is not None]
    images, failures, others = (
        tuple(dict.fromkeys(item for part in given for item in getattr(part, name)))
        for name in ('images', 'failures', 'others')
    )
    return FoundImages(images, failures, others)


def place_of(argument: ImageAt, image: ImageAt) -> Path:
    """Where an image lies below a folder; of an argument that is the image, its name."""
    if isinstance(image, str):
        return Path(name_at(image))
    return image.relative_to(argument) if argument.is_dir() else Path(image.name)


def refuse_among(out: Path, arguments: Iterable[str | Path]) -> None:
    """Refuse an output folder in which the next run would look for images.

    Raises:
        ValueError: It is one.
    """
    for argument in arguments:
        if is_address(argument):
            continue
        if not is_pattern(argument):
            refuse_inside(out, [argument])
        elif '**' in str(argument):
            refuse_inside(out, [root_of(argument)])
        else:
            found = matches(argument)
            refuse_inside(out, [path for path in found if path.is_dir()])
            if _finds_pictures(argument, out, found):
                raise ValueError(
                    f'--out {out} lies where {argument} looks for images: choose a folder elsewhere'
                )


def _finds_pictures(pattern: str | Path, out: Path, found: Iterable[Path]) -> bool:
    """Whether a pattern without ``**`` matches a picture that is written for one of its matches."""
    root = root_of(pattern)
    parts = Path(pattern).parts[len(root.parts) :]
    try:
        below = out.resolve().relative_to(root.resolve())
    except ValueError:
        return False
    for path in found:
        written = (below / f'{path.relative_to(root)}.picture.png').parts
        if len(written) == len(parts) and all(map(fnmatchcase, written, parts)):
            return True
    return False


def output_places(found: Mapping[ImageAt, FoundImages]) -> dict[ImageAt, Path]:
    """Image to where its output belongs: as it lies below its folder, or by its name.

    Args:
        found: What each argument holds.

    Raises:
        ValueError: Two images have one place.
    """
    places: dict[ImageAt, Path] = {}
    owners: dict[Path, ImageAt] = {}
    for argument, each in found.items():
        for image in each.images:
            inside = place_of(argument, image)
            other = owners.setdefault(inside, image)
            if other != image:
                raise ValueError(f'{other} and {image} have one name: {inside}')
            places.setdefault(image, inside)
    return places
