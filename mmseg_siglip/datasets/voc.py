"""PASCAL VOC 2012 without its background."""

from mmseg.datasets import PascalVOCDataset

from mmseg_siglip.registry import DATASETS


@DATASETS.register_module()
class PascalVOC20Dataset(PascalVOCDataset):
    """The 20 object classes; background pixels are ignored (``reduce_zero_label``)."""

    METAINFO = {key: value[1:] for key, value in PascalVOCDataset.METAINFO.items()}

    def __init__(self, *, reduce_zero_label: bool = True, **kwargs) -> None:
        super().__init__(reduce_zero_label=reduce_zero_label, **kwargs)
