"""Loading that MMSegmentation's transforms build on."""

from mmseg_siglip.datasets.transforms.loading import LoadAnnotations, LoadImageFromFile

__all__ = ['LoadAnnotations', 'LoadImageFromFile']
