"""MMSegmentation's data sets of images and label maps, none of whose files is passed over."""

from __future__ import annotations

from mmseg import datasets as mmseg

from mmseg_siglip.datasets.paired_files import PairedFiles
from mmseg_siglip.registry import DATASETS


def _complete(kind: type) -> type:
    """The same data set, listed by `PairedFiles`."""
    members = dict(__module__=__name__, __doc__=kind.__doc__)
    return DATASETS.register_module()(type(kind.__name__, (PairedFiles, kind), members))


BaseSegDataset = _complete(mmseg.BaseSegDataset)
BDD100KDataset = _complete(mmseg.BDD100KDataset)
ChaseDB1Dataset = _complete(mmseg.ChaseDB1Dataset)
CityscapesDataset = _complete(mmseg.CityscapesDataset)
DRIVEDataset = _complete(mmseg.DRIVEDataset)
DarkZurichDataset = _complete(mmseg.DarkZurichDataset)
HRFDataset = _complete(mmseg.HRFDataset)
ISPRSDataset = _complete(mmseg.ISPRSDataset)
LIPDataset = _complete(mmseg.LIPDataset)
LoveDADataset = _complete(mmseg.LoveDADataset)
MapillaryDataset_v1 = _complete(mmseg.MapillaryDataset_v1)
MapillaryDataset_v2 = _complete(mmseg.MapillaryDataset_v2)
NightDrivingDataset = _complete(mmseg.NightDrivingDataset)
PascalContextDataset = _complete(mmseg.PascalContextDataset)
PascalVOCDataset = _complete(mmseg.PascalVOCDataset)
PotsdamDataset = _complete(mmseg.PotsdamDataset)
REFUGEDataset = _complete(mmseg.REFUGEDataset)
STAREDataset = _complete(mmseg.STAREDataset)
SynapseDataset = _complete(mmseg.SynapseDataset)
iSAIDDataset = _complete(mmseg.iSAIDDataset)
