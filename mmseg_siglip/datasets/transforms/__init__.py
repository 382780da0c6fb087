"""Loading that MMSegmentation's transforms build on."""

from mmseg_siglip.datasets.transforms.albumentations import Albu
from mmseg_siglip.datasets.transforms.classes import SelectClasses
from mmseg_siglip.datasets.transforms.depth import KBCrop, LoadDepthAnnotation, LoadShapesDepth
from mmseg_siglip.datasets.transforms.filling import (
    CropCentre,
    GenerateEdge,
    PadLabels,
    RandomCrop,
    RandomCutOut,
    RandomMosaic,
    RandomRotate,
    RandomRotFlip,
)
from mmseg_siglip.datasets.transforms.loading import LoadAnnotations, LoadImageFromFile
from mmseg_siglip.datasets.transforms.normals import LoadNormals, NormalsFromDepth
from mmseg_siglip.datasets.transforms.referring import (
    LoadReferringMasks,
    PackReferringInputs,
    PadReferring,
    RandomReferringFlip,
    ResizeReferring,
)
from mmseg_siglip.datasets.transforms.regions import LoadShapesRegions
from mmseg_siglip.datasets.transforms.regions_file import LoadRegions, PackSegInputs

__all__ = [
    'Albu',
    'CropCentre',
    'GenerateEdge',
    'KBCrop',
    'LoadAnnotations',
    'LoadDepthAnnotation',
    'LoadImageFromFile',
    'LoadNormals',
    'LoadReferringMasks',
    'LoadRegions',
    'LoadShapesDepth',
    'LoadShapesRegions',
    'NormalsFromDepth',
    'PackReferringInputs',
    'PackSegInputs',
    'PadLabels',
    'PadReferring',
    'RandomCrop',
    'RandomCutOut',
    'RandomMosaic',
    'RandomReferringFlip',
    'RandomRotFlip',
    'RandomRotate',
    'ResizeReferring',
    'SelectClasses',
]
