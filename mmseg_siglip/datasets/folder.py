"""Any folder of images with index label maps, its classes named by a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmseg.datasets import BaseSegDataset

from mmseg_siglip.datasets.paired_files import PairedFiles
from mmseg_siglip.registry import DATASETS
from mmseg_siglip.text.class_colours import class_colours
from mmseg_siglip.text.vocabulary import Vocabulary


@DATASETS.register_module()
class FolderDataset(PairedFiles, BaseSegDataset):
    """MMSeg's base dataset with the classes of a vocabulary.

    Args:
        vocabulary: What ``Vocabulary.load`` takes; the class names are its names, the palette is
            that of `class_colours`.
        label_values: The label files' value for each class; 0 to C - 1 if not given.
        void_values: Further values of the files, whose pixels are ignored.
        kwargs: See `PairedFiles` and MMSeg's ``BaseSegDataset``.

    Raises:
        ValueError: If the values are not one for each class, all different, or ``ignore_index``
            is the index of a class.
    """

    def __init__(
        self,
        *,
        vocabulary: str | Path | Sequence[str] | Vocabulary,
        label_values: Sequence[int] | None = None,
        void_values: Sequence[int] = (),
        ignore_index: int = 255,
        **kwargs,
    ) -> None:
        names = Vocabulary.load(vocabulary).names
        values = list(range(len(names)) if label_values is None else label_values)
        if len(values) != len(names):
            raise ValueError(f'{len(values)} label_values for the {len(names)} classes')
        if len({*values, *void_values}) != len(values) + len(void_values):
            raise ValueError('label_values and void_values must all differ')
        if 0 <= ignore_index < len(names):
            raise ValueError(
                f'ignore_index={ignore_index} is the index of class {names[ignore_index]!r}'
            )
        self._file_values = {value: index for index, value in enumerate(values)}
        self._file_values.update(dict.fromkeys(void_values, ignore_index))
        metainfo = dict(classes=names, palette=class_colours(names).tolist())
        super().__init__(metainfo=metainfo, ignore_index=ignore_index, **kwargs)

    def get_label_map(self, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """Class index (or ``ignore_index``) of each value that the files may hold."""
        return self._file_values
