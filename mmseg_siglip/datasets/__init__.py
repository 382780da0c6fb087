"""Datasets and transforms that MMSegmentation lacks."""

from mmseg_siglip.datasets import transforms  # noqa: F401
from mmseg_siglip.datasets.ade20k import ADE20KDataset
from mmseg_siglip.datasets.coco_object import COCOObjectDataset
from mmseg_siglip.datasets.coco_stuff import COCOStuffDataset
from mmseg_siglip.datasets.depth import KITTIDepthDataset, NYUDataset, RGBDDataset
from mmseg_siglip.datasets.folder import FolderDataset
from mmseg_siglip.datasets.grouped_folder import GroupedFolderDataset
from mmseg_siglip.datasets.hugging_face import HuggingFaceDataset
from mmseg_siglip.datasets.large_vocabulary import ADE20K847Dataset, PascalContext459Dataset
from mmseg_siglip.datasets.mmseg_datasets import (
    BaseSegDataset,
    BDD100KDataset,
    ChaseDB1Dataset,
    CityscapesDataset,
    DarkZurichDataset,
    DRIVEDataset,
    HRFDataset,
    ISPRSDataset,
    LIPDataset,
    LoveDADataset,
    MapillaryDataset_v1,
    MapillaryDataset_v2,
    NightDrivingDataset,
    PascalContextDataset,
    PascalVOCDataset,
    PotsdamDataset,
    REFUGEDataset,
    STAREDataset,
    SynapseDataset,
    iSAIDDataset,
)
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
    'BDD100KDataset',
    'BaseSegDataset',
    'COCOObjectDataset',
    'COCOStuffDataset',
    'ChaseDB1Dataset',
    'CityscapesDataset',
    'DRIVEDataset',
    'DarkZurichDataset',
    'FolderDataset',
    'GroupedFolderDataset',
    'HuggingFaceDataset',
    'HRFDataset',
    'ISPRSDataset',
    'KITTIDepthDataset',
    'LIPDataset',
    'LoveDADataset',
    'MapillaryDataset_v1',
    'MapillaryDataset_v2',
    'NYUDataset',
    'NightDrivingDataset',
    'PascalContext459Dataset',
    'PascalContext60Dataset',
    'PascalContextDataset',
    'PascalContextDataset59',
    'PascalVOC20Dataset',
    'PascalVOC20bDataset',
    'PascalVOCDataset',
    'PhraseListDataset',
    'PotsdamDataset',
    'REFUGEDataset',
    'RGBDDataset',
    'RefCOCODataset',
    'ReferringDataset',
    'STAREDataset',
    'ShapesCaptionDataset',
    'ShapesQuestionDataset',
    'ShapesReferringDataset',
    'ShapesWorldDataset',
    'SynapseDataset',
    'iSAIDDataset',
]
