"""Datasets and transforms that MMSegmentation lacks."""

from mmseg_siglip.datasets import transforms  # noqa: F401
from mmseg_siglip.datasets.coco_object import COCOObjectDataset
from mmseg_siglip.datasets.depth import KITTIDepthDataset, RGBDDataset
from mmseg_siglip.datasets.folder import FolderDataset
from mmseg_siglip.datasets.large_vocabulary import ADE20K847Dataset, PascalContext459Dataset
from mmseg_siglip.datasets.pascal_context import PascalContext60Dataset
from mmseg_siglip.datasets.shapes import ShapesWorldDataset
from mmseg_siglip.datasets.shapes_pretraining import ShapesCaptionDataset
from mmseg_siglip.datasets.voc import PascalVOC20Dataset

__all__ = [
    'ADE20K847Dataset',
    'COCOObjectDataset',
    'FolderDataset',
    'KITTIDepthDataset',
    'PascalContext459Dataset',
    'PascalContext60Dataset',
    'PascalVOC20Dataset',
    'RGBDDataset',
    'ShapesCaptionDataset',
    'ShapesWorldDataset',
]
