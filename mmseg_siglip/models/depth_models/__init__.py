from mmseg_siglip.models.depth_models.depth_anything import DepthAnythingDepth
from mmseg_siglip.models.depth_models.dpt import DPTDepth
from mmseg_siglip.models.depth_models.find import build_depth_model
from mmseg_siglip.models.depth_models.published import PublishedDepth
from mmseg_siglip.models.depth_models.tips import TIPSDepth
from mmseg_siglip.models.depth_models.zoe_depth import ZoeDepth

__all__ = [
    'DPTDepth',
    'DepthAnythingDepth',
    'PublishedDepth',
    'TIPSDepth',
    'ZoeDepth',
    'build_depth_model',
]
