"""Datasets with more classes than eight bits hold; their labels are 16-bit images."""

from __future__ import annotations

from collections.abc import Sequence

from mmseg.datasets import BaseSegDataset

from mmseg_siglip.datasets.paired_files import PairedFiles
from mmseg_siglip.registry import DATASETS
from mmseg_siglip.text.vocabulary import Vocabulary

IGNORE = 65535


class LargeVocabularyDataset(PairedFiles, BaseSegDataset):
    """Labels 0 to C - 1 in 16-bit images, 65535 where nothing is annotated."""

    def __init__(
        self,
        *,
        img_suffix: str = '.jpg',
        seg_map_suffix: str = '.tif',
        ignore_index: int = IGNORE,
        **kwargs,
    ) -> None:
        super().__init__(
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            ignore_index=ignore_index,
            **kwargs,
        )

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int] | None:
        """Refuse a selection of classes: MMSeg would mark the others with 255, a class here."""
        if new_classes is not None and tuple(new_classes) != cls.METAINFO['classes']:
            raise ValueError(f'{cls.__name__} has no selection of classes, got {new_classes}')
        return None


@DATASETS.register_module()
class ADE20K847Dataset(LargeVocabularyDataset):
    """ADE20K full, 847 classes; ``tools/dataset_converters/ade20k_847.py`` makes its files."""

    METAINFO = dict(classes=Vocabulary.load('ade847').names)


@DATASETS.register_module()
class PascalContext459Dataset(LargeVocabularyDataset):
    """PASCAL Context, 459 classes; unannotated pixels are 459 or 65535, whoever made the files."""

    METAINFO = dict(classes=Vocabulary.load('context459').names)

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        super().get_label_map(new_classes)
        count = len(cls.METAINFO['classes'])
        return {**{index: index for index in range(count)}, count: IGNORE}
