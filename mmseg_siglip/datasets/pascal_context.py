"""PASCAL Context, with and without its background."""

from mmseg import datasets as mmseg

from mmseg_siglip.datasets.paired_files import PairedFiles
from mmseg_siglip.datasets.two_layouts import TwoLayouts
from mmseg_siglip.registry import DATASETS


@DATASETS.register_module()
class PascalContext60Dataset(PairedFiles, mmseg.PascalContextDataset):
    """Background and 59 classes, as the open-vocabulary papers call it; label 0 counts."""


@DATASETS.register_module()
class PascalContextDataset59(TwoLayouts, mmseg.PascalContextDataset59):
    """PASCAL Context without background, 59 classes."""
