"""MMSegmentation's ADE20K, in either form of its labels."""

from __future__ import annotations

from mmseg import datasets as mmseg

from mmseg_siglip.datasets.ade20k import ADE20KDataset
from mmseg_siglip.datasets.two_layouts import TwoLayouts
from mmseg_siglip.registry import DATASETS


def test_takes_the_place_of_mmsegs_with_its_classes():
    assert DATASETS.get('ADE20KDataset') is ADE20KDataset
    assert DATASETS.get('mmseg.ADE20KDataset') is mmseg.ADE20KDataset
    assert ADE20KDataset.METAINFO == mmseg.ADE20KDataset.METAINFO
    assert len(ADE20KDataset.METAINFO['classes']) == 150
    assert issubclass(ADE20KDataset, TwoLayouts)
