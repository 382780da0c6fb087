"""Loading that MMSegmentation's transforms build on."""

from mmseg_siglip.datasets.transforms.classes import SelectClasses
from mmseg_siglip.datasets.transforms.depth import KBCrop, LoadDepthAnnotation, LoadShapesDepth
from mmseg_siglip.datasets.transforms.loading import LoadAnnotations, LoadImageFromFile

__all__ = [
    'KBCrop',
    'LoadAnnotations',
    'LoadDepthAnnotation',
    'LoadImageFromFile',
    'LoadShapesDepth',
    'SelectClasses',
]
