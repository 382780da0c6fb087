"""COCO's 80 things and a background, drawn as a label map."""

from mmseg.datasets import BaseSegDataset, COCOStuffDataset

from mmseg_siglip.datasets.paired_files import PairedFiles
from mmseg_siglip.registry import DATASETS

THINGS = 80


@DATASETS.register_module()
class COCOObjectDataset(PairedFiles, BaseSegDataset):
    """Background and 80 classes, labels written by ``tools/dataset_converters/coco_object.py``."""

    METAINFO = dict(
        classes=('background', *COCOStuffDataset.METAINFO['classes'][:THINGS]),
        palette=[[0, 0, 0], *COCOStuffDataset.METAINFO['palette'][:THINGS]],
    )

    def __init__(
        self, *, img_suffix: str = '.jpg', seg_map_suffix: str = '_instanceTrainIds.png', **kwargs
    ) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
