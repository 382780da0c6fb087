"""Datasets and transforms that MMSegmentation lacks."""

from mmseg_siglip.datasets import transforms  # noqa: F401
from mmseg_siglip.datasets.ade20k import ADE20KDataset
from mmseg_siglip.datasets.coco_object import COCOObjectDataset
from mmseg_siglip.datasets.coco_stuff import COCOStuffDataset
from mmseg_siglip.datasets.depth import KITTIDepthDataset, RGBDDataset
from mmseg_siglip.datasets.folder import FolderDataset
from mmseg_siglip.datasets.grouped_folder import GroupedFolderDataset
from mmseg_siglip.datasets.large_vocabulary import ADE20K847Dataset, PascalContext459Dataset
from mmseg_siglip.datasets.pascal_context import PascalContext60Dataset, PascalContextDataset59
from mmseg_siglip.datasets.referring import ReferringDataset
from mmseg_siglip.datasets.referring_layouts import PhraseListDataset, RefCOCODataset
from mmseg_siglip.datasets.shapes_world.phrases import ShapesReferringDataset
from mmseg_siglip.datasets.shapes_world.pretraining import ShapesCaptionDataset
from mmseg_siglip.datasets.shapes_world.questions import ShapesQuestionDataset
from mmseg_siglip.datasets.shapes_world.segmentation import ShapesWorldDataset
from mmseg_siglip.datasets.voc import PascalVOC20bDataset, PascalVOC20Dataset

__all__ = [
    'ADE20K847Dataset',
    'ADE20KDataset',
    'COCOObjectDataset',
    'COCOStuffDataset',
    'FolderDataset',
    'GroupedFolderDataset',
    'KITTIDepthDataset',
    'PascalContext459Dataset',
    'PascalContext60Dataset',
    'PascalContextDataset59',
    'PascalVOC20Dataset',
    'PascalVOC20bDataset',
    'PhraseListDataset',
    'RGBDDataset',
    'RefCOCODataset',
    'ReferringDataset',
    'ShapesCaptionDataset',
    'ShapesQuestionDataset',
    'ShapesReferringDataset',
    'ShapesWorldDataset',
]
