"""Regions of an image: what finds them, and what is done with them.

Regions are a label map (H, W) int64, 0 is none, or where they overlap masks (M, H, W) bool.
"""

from mmseg_siglip.models.regions.cached import CachedRegions
from mmseg_siglip.models.regions.maps import resize_regions
from mmseg_siglip.models.regions.panoptic import PanopticRegions
from mmseg_siglip.models.regions.proposer import RegionProposer
from mmseg_siglip.models.regions.sam import SAMRegions

__all__ = [
    'CachedRegions',
    'PanopticRegions',
    'RegionProposer',
    'SAMRegions',
    'resize_regions',
]
