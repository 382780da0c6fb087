"""Which image goes with which label map, by the names of files; nothing is left out in silence.

A *pattern* is what a name begins and ends with, such as ``('', '_leftImg8bit.png')``; the *stem* of
a file is its path without the two. An image may be of any kind that is read, in place of the
pattern's own; of other files the case of the extension alone is free.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from mmengine import fileio
from mmengine.fileio import LocalBackend
from PIL import Image

from mmseg_siglip.io.image import FORMATS

Pattern = tuple[str, str]
KINDS = {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}
"""Suffixes of images that are read."""
SHOWN = 3


def first_few(names: Sequence[str]) -> str:
    """The first three of some names, and how many more there are."""
    more = len(names) - SHOWN
    return ', '.join(names[:SHOWN]) + (f' and {more} more' if more > 0 else '')


def lying(names: Sequence[str]) -> str:
    """What lies in a folder in which something else was looked for."""
    return f'in it lie {first_few(names)}' if names else 'it is empty'


def check_indices(indices: int | Sequence[int] | None, count: int, where: str) -> None:
    """Refuse a choice of samples that are not there; MMEngine takes the fewer that are.

    Args:
        indices: What MMEngine's `BaseDataset` takes: the first so many, or the last if negative; or
            a list of which.
        count: Of all samples.
        where: What holds them.

    Raises:
        ValueError: There are fewer.
    """
    if indices is None:
        return
    chosen = [indices - (indices > 0)] if isinstance(indices, int) else list(indices)
    plain = all(isinstance(index, int) for index in chosen)
    if not plain or indices == 0 or not chosen or not all(-count <= i < count for i in chosen):
        raise ValueError(
            f'{where}: indices: expected some of its {count} samples, found {str(indices)[:100]}'
        )


def is_local(folder: str, backend_args: dict | None) -> bool:
    return isinstance(fileio.get_file_backend(folder, backend_args=backend_args), LocalBackend)


def list_files(folder: str, backend_args: dict | None = None) -> list[str]:
    """Paths below a folder, sorted; linked folders are looked through, hidden names are not.

    Raises:
        ValueError: There is no such folder, or a link in it leads nowhere.
    """
    if not is_local(folder, backend_args):
        options = dict(list_dir=False, recursive=True, backend_args=backend_args)
        return sorted(fileio.list_dir_or_file(folder, **options))
    if not os.path.isdir(folder):
        raise ValueError(f'{folder}: expected a folder, found no such one')
    found = sorted(_walk(folder, '', ()))
    lost = [name for name in found if not os.path.exists(os.path.join(folder, name))]
    if lost:
        raise ValueError(f'{folder}: {len(lost)} links lead nowhere: {first_few(lost)}')
    return found


def _walk(folder: str, below: str, above: tuple[str, ...]) -> Iterator[str]:
    place = os.path.realpath(folder)
    if place in above:  # a link to a folder that it lies in
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith('.'):
                continue
            if entry.is_dir():
                yield from _walk(entry.path, f'{below}{entry.name}/', (*above, place))
            else:
                yield f'{below}{entry.name}'


def stem_of(path: str, pattern: Pattern, *, any_kind: bool = False) -> str | None:
    """The stem of a path, None if its name does not fit the pattern."""
    begin, end = pattern
    folder, name = os.path.split(path)
    base, dot, kind = name.rpartition('.')
    tail, _, own_kind = end.rpartition('.') if '.' in end else (end, '', '')
    if name.endswith(end):
        base = name[: len(name) - len(end)]
    elif dot and (kind.lower() == own_kind.lower() or any_kind and f'.{kind.lower()}' in KINDS):
        if not base.endswith(tail):
            return None
        base = base[: len(base) - len(tail)]
    else:
        return None
    if not base.startswith(begin):
        return None
    return os.path.join(folder, base[len(begin) :])


def path_of(stem: str, pattern: Pattern) -> str:
    """The path whose stem that is."""
    folder, name = os.path.split(stem)
    return os.path.join(folder, f'{pattern[0]}{name}{pattern[1]}')


def pair_files(
    folder: str,
    image: Pattern,
    truths: str | None = None,
    truth: Pattern = ('', ''),
    *,
    backend_args: dict | None = None,
) -> list[tuple[str, str | None]]:
    """All images of a folder, each with its truth (a label or depth map), in the order of names.

    Args:
        folder: Of the images.
        image: Their pattern.
        truths: Folder of the truths, None if there are none; it may be that of the images.
        truth: Pattern of the truths.
        backend_args: Arguments of MMEngine's file backend.

    Raises:
        ValueError: See `list_files`; there is no image, an image without a truth, a truth without
            an image, or two files of one stem.
    """
    files = outside(list_files(folder, backend_args), folder, truths, truth)
    images = by_stem(files, image, folder, any_kind=True)
    if not images:
        raise ValueError(
            f'{folder}: expected images named {"*".join(image)}, found none; {lying(files)}'
        )
    if truths is None:
        return sorted((os.path.join(folder, name), None) for name in images.values())
    beside = outside(list_files(truths, backend_args), truths, folder)
    maps = by_stem(beside, truth, truths)
    if not maps:
        raise ValueError(
            f'{truths}: expected label or depth maps named {"*".join(truth)}, found none; '
            f'{lying(beside)}'
        )
    bare = [stem for stem in images if stem not in maps]
    if bare:
        raise ValueError(
            f'{folder}: {len(bare)} of {len(images)} images have no label or depth map: '
            f'{first_few([images[stem] for stem in bare])}; expected for the first '
            f'{os.path.join(truths, path_of(bare[0], truth))}'
        )
    alone = [stem for stem in maps if stem not in images and not _further_form(stem, images)]
    if alone:
        near = [name for name in files if os.path.splitext(name)[0] == alone[0]]
        hint = f' ({near[0]} is of no kind that is read)' if near else ''
        raise ValueError(
            f'{truths}: {len(alone)} of {len(maps)} label or depth maps have no image in '
            f'{folder}: {first_few([maps[stem] for stem in alone])}{hint}; where that is meant, '
            'name the images to take in a list, ann_file'
        )
    return sorted(
        (os.path.join(folder, name), os.path.join(truths, maps[stem]))
        for stem, name in images.items()
    )


def outside(
    names: list[str], folder: str, other: str | None, pattern: Pattern | None = None
) -> list[str]:
    """Names below a folder that are not in another one; if it is the same, not of its pattern."""
    below = '..' if other is None else os.path.relpath(other, folder)
    if below == '.':
        return [n for n in names if pattern is None or stem_of(n, pattern) is None]
    if below.split(os.sep)[0] == '..':
        return names
    return [n for n in names if not n.startswith(f'{below}/')]


def by_stem(
    names: Iterable[str], pattern: Pattern, folder: str, *, any_kind: bool = False
) -> dict[str, str]:
    """Names of a pattern by their stems, in the order of these.

    Raises:
        ValueError: Two have one stem.
    """
    found: dict[str, str] = {}
    for name in names:
        stem = stem_of(name, pattern, any_kind=any_kind)
        if stem is not None and found.setdefault(stem, name) != name:
            raise ValueError(f'{folder}: expected one file of a name, found {found[stem]}, {name}')
    return dict(sorted(found.items()))


def _further_form(stem: str, images: dict[str, str]) -> bool:
    """Whether a truth is another form of an image's own: ``a_labelTrainIds`` beside ``a``."""
    base, _, form = stem.rpartition('_')
    return form.isalpha() and base in images
