from mmseg_siglip.models.sam.adapter import SAMAdapter
from mmseg_siglip.models.sam.components import SAMComponents
from mmseg_siglip.models.sam.concept_regions import SAM3Regions
from mmseg_siglip.models.sam.concepts import SAM3Adapter
from mmseg_siglip.models.sam.generator import SegmentAnythingGrid
from mmseg_siglip.models.sam.geometry import SAMFeatures
from mmseg_siglip.models.sam.proposals import SAMPointGrid

__all__ = [
    'SAM3Adapter',
    'SAM3Regions',
    'SAMAdapter',
    'SAMComponents',
    'SAMFeatures',
    'SAMPointGrid',
    'SegmentAnythingGrid',
]
