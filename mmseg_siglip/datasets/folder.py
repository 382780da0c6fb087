"""Any folder of images with label maps, its classes named by a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmseg.datasets import BaseSegDataset

from mmseg_siglip.datasets.paired_files import PairedFiles
from mmseg_siglip.datasets.transforms.label_colours import colour_table
from mmseg_siglip.registry import DATASETS
from mmseg_siglip.text.class_colours import class_colours
from mmseg_siglip.text.vocabulary import Vocabulary


@DATASETS.register_module()
class FolderDataset(PairedFiles, BaseSegDataset):
    """MMSeg's base dataset with the classes of a vocabulary.

    The label files hold a value for each class, or, with `label_colours`, are pictures that show a
    colour for each class. Drawn predictions have these colours, too.

    Args:
        vocabulary: What ``Vocabulary.load`` takes; the class names are its names, the palette is
            that of `class_colours`.
        label_values: The label files' value for each class; 0 to C - 1 if not given.
        void_values: Further values of the files, whose pixels are ignored.
        label_colours: (C, 3), red, green and blue of each class, 0 to 255.
        void_colours: Further colours, whose pixels are ignored.
        kwargs: See `PairedFiles` and MMSeg's ``BaseSegDataset``.

    Raises:
        ValueError: If the values or colours are not one for each class, all different, both are
            given, or ``ignore_index`` is the index of a class.
    """

    def __init__(
        self,
        *,
        vocabulary: str | Path | Sequence[str] | Vocabulary,
        label_values: Sequence[int] | None = None,
        void_values: Sequence[int] = (),
        label_colours: Sequence[Sequence[int]] | None = None,
        void_colours: Sequence[Sequence[int]] = (),
        ignore_index: int = 255,
        reduce_zero_label: bool = False,
        **kwargs,
    ) -> None:
        names = Vocabulary.load(vocabulary).names
        metainfo = dict(classes=names, palette=class_colours(names).tolist())
        if 0 <= ignore_index < len(names):
            raise ValueError(
                f'ignore_index={ignore_index} is the index of class {names[ignore_index]!r}'
            )
        self._file_values = self._file_colours = None
        if label_colours is None and not void_colours:
            values = list(range(len(names)) if label_values is None else label_values)
            if len(values) != len(names):
                raise ValueError(f'{len(values)} label_values for the {len(names)} classes')
            if len({*values, *void_values}) != len(values) + len(void_values):
                raise ValueError('label_values and void_values must all differ')
            self._file_values = {value: index for index, value in enumerate(values)}
            self._file_values.update(dict.fromkeys(void_values, ignore_index))
        else:
            if label_values is not None or void_values or reduce_zero_label:
                raise ValueError(
                    'expected label_colours, or label_values, void_values and reduce_zero_label; '
                    'found both'
                )
            if len(label_colours or ()) != len(names):
                raise ValueError(
                    f'{len(label_colours or ())} label_colours for the {len(names)} classes'
                )
            self._file_colours = colour_table(label_colours, void_colours, ignore_index)
            metainfo['palette'] = [list(colour) for colour in label_colours]
        super().__init__(
            metainfo=metainfo,
            ignore_index=ignore_index,
            reduce_zero_label=reduce_zero_label,
            **kwargs,
        )

    def get_label_map(self, new_classes: Sequence[str] | None = None) -> dict[int, int] | None:
        """Class index (or ``ignore_index``) of each value that the files may hold."""
        return self._file_values

    def sample(self, image: str, truth: str | None) -> dict:
        found = super().sample(image, truth)
        colours = self._file_colours
        return found if colours is None else dict(found, label_colours=colours)
