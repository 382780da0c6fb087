"""PASCAL VOC 2012 without its background, or with it as the last class."""

from __future__ import annotations

from collections.abc import Sequence

from mmseg import datasets as mmseg

from mmseg_siglip.datasets.two_layouts import TwoLayouts
from mmseg_siglip.registry import DATASETS


@DATASETS.register_module()
class PascalVOC20Dataset(TwoLayouts, mmseg.PascalVOCDataset):
    """The 20 object classes; background pixels are ignored (``reduce_zero_label``)."""

    outlines = True
    METAINFO = {key: value[1:] for key, value in mmseg.PascalVOCDataset.METAINFO.items()}

    def __init__(self, *, reduce_zero_label: bool = True, **kwargs) -> None:
        super().__init__(reduce_zero_label=reduce_zero_label, **kwargs)


@DATASETS.register_module()
class PascalVOC20bDataset(TwoLayouts, mmseg.PascalVOCDataset):
    """PASCAL VOC 2012 with its background as the last of 21 classes, which is CAT-Seg's PAS-20b."""

    outlines = True
    METAINFO = {
        key: [*value[1:], value[0]] for key, value in mmseg.PascalVOCDataset.METAINFO.items()
    }

    @property
    def first_class(self) -> int:
        return 0 if self.layout == 'detectron2' else 1

    def get_label_map(self, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        last = len(self.METAINFO['classes']) - 1
        chosen = super().get_label_map(new_classes)
        if self.layout == 'detectron2':
            return chosen
        return {(index + 1) % (last + 1): new for index, new in chosen.items()}
