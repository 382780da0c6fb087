"""What leaves the toolbox for other models."""

from mmseg_siglip.patch_stats.fusion import PatchStatisticsFusion
from mmseg_siglip.patch_stats.statistics import (
    PatchStatistics,
    depth_to_patch_stats,
    patch_statistics,
)

__all__ = ['PatchStatistics', 'PatchStatisticsFusion', 'depth_to_patch_stats', 'patch_statistics']
