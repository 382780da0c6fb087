"""What leaves the toolbox for other models."""

from mmseg_siglip.export.patch_stats import PatchStatistics, patch_statistics
from mmseg_siglip.export.patch_stats_fusion import PatchStatisticsFusion

__all__ = ['PatchStatistics', 'PatchStatisticsFusion', 'patch_statistics']
