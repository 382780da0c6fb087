"""What to call the things that are saved of images, one name an image."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from mmengine.dataset import BaseDataset


def name_images(paths: Iterable[str]) -> dict[str, str]:
    """A name without suffix for each path, all different.

    It is the stem of the file's name; where two of these are the same, each image gets its path
    below the folder that all share, with ``_`` between the parts: ``drive_0002_0000000069``.

    Raises:
        ValueError: Two paths still have one name.
    """
    paths = list(dict.fromkeys(paths))
    stems = {path: Path(path).stem for path in paths}
    if len(set(stems.values())) == len(paths):
        return stems
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    owners: dict[str, str] = {}
    for path in paths:
        name = '_'.join(Path(os.path.relpath(path, shared)).with_suffix('').parts)
        own(owners, name, path)
    return {path: name for name, path in owners.items()}


def own(owners: dict[str, str], name: str, path: str) -> None:
    """Note that `name` is of `path`.

    Raises:
        ValueError: It is another's.
    """
    other = owners.setdefault(name, path)
    if other != path:
        raise ValueError(f'{other} and {path} would both be saved as {name}')


class ImageNames:
    """From the path of an image to its name by `name_images`.

    Names depend neither on the order of the images nor on the number of processes, since the whole
    data set is looked at, when the first name is asked for.

    Args:
        dataset: Holds the images. Others are named by their stem.
    """

    def __init__(self, dataset: BaseDataset | None = None) -> None:
        self._dataset = dataset
        self._owners: dict[str, str] = {}

    @cached_property
    def _names(self) -> dict[str, str]:
        if self._dataset is None:
            return {}
        samples = map(self._dataset.get_data_info, range(len(self._dataset)))
        return name_images(sample['img_path'] for sample in samples if 'img_path' in sample)

    def __call__(self, path: str) -> str:
        """The name of one image.

        Raises:
            ValueError: Another image has it.
        """
        name = self._names.get(path, Path(path).stem)
        own(self._owners, name, path)
        return name
