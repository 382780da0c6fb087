"""What leaves the toolbox for other models."""

from mmseg_siglip.patch_stats.fusion import PatchStatisticsFusion
from mmseg_siglip.patch_stats.statistics import PatchStatistics, patch_statistics

__all__ = ['PatchStatistics', 'PatchStatisticsFusion', 'patch_statistics']
