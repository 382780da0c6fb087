"""ZoeDepth, https://arxiv.org/abs/2302.12288: metres, on MiDaS' BEiT."""

from __future__ import annotations

from transformers import ZoeDepthForDepthEstimation

from mmseg_siglip.models.depth_models.published import PublishedDepth
from mmseg_siglip.registry import DEPTH_MODELS


@DEPTH_MODELS.register_module()
class ZoeDepth(PublishedDepth):
    """transformers' folders (``Intel/zoedepth-nyu-kitti``): one pass, without the mean with the
    mirrored image that its authors take."""

    model_types = ('zoedepth',)
    kind = ZoeDepthForDepthEstimation
    predicts = 'depth'
