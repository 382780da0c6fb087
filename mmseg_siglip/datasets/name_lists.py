"""Lists of images: the files of a split, a name a line."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from logging import WARNING
from pathlib import Path

from mmengine.logging import print_log

from mmseg_siglip.datasets.listing import Pattern, first_few, path_of, stem_of


def numbered_lines(path: str) -> list[tuple[int, str]]:
    """The lines of a text file without blanks around them, and their numbers; empty ones are not
    among them.

    Raises:
        ValueError: It cannot be read, or is no UTF-8 text.
    """
    try:
        text = Path(path).read_bytes().decode('utf-8-sig')
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {error.strerror}') from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{path}: expected a list in UTF-8, found {error.reason} at byte {error.start}'
        ) from None
    lines = enumerate(re.split('\r\n|\r|\n', text), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_names(path: str) -> list[str]:
    """The lines of a list.

    Raises:
        ValueError: See `numbered_lines`; there are none.
    """
    names = [line for _, line in numbered_lines(path)]
    if not names:
        raise ValueError(f'{path}: expected the name of an image on each line, found none')
    return names


def check_files(paths: Iterable[str], what: str, where: str) -> None:
    """Refuse a list that names what is not there.

    Args:
        paths: Of the files; web addresses and their like are not looked at.
        what: To call them in an error: ``images``.
        where: What names them.

    Raises:
        ValueError: Some are no files; the first three are named.
    """
    paths = list(dict.fromkeys(paths))
    absent = [path for path in paths if '://' not in path and not os.path.isfile(path)]
    if absent:
        raise ValueError(
            f'{where}: {len(absent)} of the {len(paths)} {what} that it names are not there: '
            f'{first_few(absent)}'
        )


def say_repeated(names: Iterable[str], ann_file: str) -> None:
    """Log which images a list names more than once."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        print_log(
            f'{ann_file} names {len(twice)} images more than once, which count as often: '
            f'{first_few(twice)}',
            'current',
            WARNING,
        )


def named_pairs(
    ann_file: str, folder: str, image: Pattern, truths: str | None, truth: Pattern
) -> list[tuple[str, str | None]]:
    """The images that a list names, each with its truth, in the order of the list.

    A name may have a suffix or none; the file may be of another kind than the pattern's, if there
    is one such file. A name that occurs twice counts twice, and the log says so.

    Args:
        ann_file: The list.
        folder: Of the images.
        image: Their pattern, see `listing`.
        truths: Folder of the label or depth maps, None if there are none.
        truth: Pattern of these.

    Raises:
        ValueError: See `read_names` and `check_files`.
    """
    names = read_names(ann_file)
    say_repeated(names, ann_file)
    shelf = _Shelf(folder, image, truth if truths == folder else None, any_kind=True)
    images = [shelf.find(name) for name in names]
    check_files((path for _, path in images), 'images', ann_file)
    if truths is None:
        return [(path, None) for _, path in images]
    shelf = _Shelf(truths, truth)
    pairs = [(path, shelf.find(stem)[1]) for stem, path in images]
    check_files((path for _, path in pairs), 'label or depth maps', ann_file)
    return pairs


class _Shelf:
    """Files of one pattern; of a directory that lacks one by its very name, all are looked at."""

    def __init__(
        self, folder: str, pattern: Pattern, but: Pattern | None = None, *, any_kind: bool = False
    ) -> None:
        self.folder, self.pattern, self.but, self.any_kind = folder, pattern, but, any_kind
        self.seen: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str) -> tuple[str, str]:
        """Stem and path of what a list calls `name`; the path is no file if there is none."""
        path = os.path.join(self.folder, path_of(name, self.pattern))
        if os.path.isfile(path):
            return name, path
        stem = stem_of(name, self.pattern, any_kind=self.any_kind) or name
        path = os.path.join(self.folder, path_of(stem, self.pattern))
        parent, base = os.path.split(os.path.join(self.folder, stem))
        found = self.beside(parent).get(base, [])
        if len(found) > 1 and not os.path.isfile(path):
            raise ValueError(f'{parent}: expected one file of a name, found {", ".join(found)}')
        return stem, path if len(found) != 1 else os.path.join(parent, found[0])

    def beside(self, parent: str) -> dict[str, list[str]]:
        if parent not in self.seen:
            self.seen[parent] = found = defaultdict(list)
            for name in sorted(os.listdir(parent)) if os.path.isdir(parent) else ():
                stem = stem_of(name, self.pattern, any_kind=self.any_kind)
                if stem is not None and (self.but is None or stem_of(name, self.but) is None):
                    found[stem].append(name)
        return self.seen[parent]
