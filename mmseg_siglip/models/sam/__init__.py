from mmseg_siglip.models.sam.adapter import SAMAdapter
from mmseg_siglip.models.sam.geometry import SAMFeatures

__all__ = ['SAMAdapter', 'SAMFeatures']
