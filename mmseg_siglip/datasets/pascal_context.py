"""PASCAL Context with its background, under the name of the open-vocabulary papers."""

from mmseg.datasets import PascalContextDataset

from mmseg_siglip.registry import DATASETS


@DATASETS.register_module()
class PascalContext60Dataset(PascalContextDataset):
    """Background and 59 classes; label 0 is the background and counts."""
