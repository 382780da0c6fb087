"""All of MMSegmentation's data sets of pictures and label maps are listed whole in our scope."""

from __future__ import annotations

import inspect

from mmseg import datasets as mmseg

from mmseg_siglip.datasets import mmseg_datasets
from mmseg_siglip.datasets.paired_files import PairedFiles
from mmseg_siglip.registry import DATASETS

NO_PAIRS = {'BaseCDDataset', 'DecathlonDataset', 'DSDLSegDataset', 'LEVIRCDDataset'}
"""Of three dimensions, two pictures, or lists of their own."""


def test_none_is_missing():
    theirs = {
        name
        for name, kind in inspect.getmembers(mmseg, inspect.isclass)
        if issubclass(kind, (mmseg.BaseSegDataset, mmseg.BaseCDDataset))
    }
    ours = {name for name in theirs if hasattr(mmseg_datasets, name)}
    assert {name for name in theirs - ours - NO_PAIRS if not paired(name)} == set()


def paired(name):
    return issubclass(DATASETS.get(name), PairedFiles)


def test_those_of_our_scope_are_listed_by_us():
    for name, kind in inspect.getmembers(mmseg_datasets, inspect.isclass):
        if name != 'PairedFiles':
            assert DATASETS.get(name) is kind and issubclass(kind, PairedFiles)
            assert issubclass(kind, getattr(mmseg, name)) and kind.METAINFO == (
                getattr(mmseg, name).METAINFO
            )
