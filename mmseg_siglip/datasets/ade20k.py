"""ADE20K in either form of its labels."""

from mmseg import datasets as mmseg

from mmseg_siglip.datasets.two_layouts import TwoLayouts
from mmseg_siglip.registry import DATASETS


@DATASETS.register_module()
class ADE20KDataset(TwoLayouts, mmseg.ADE20KDataset):
    """ADE20K, 150 classes."""
