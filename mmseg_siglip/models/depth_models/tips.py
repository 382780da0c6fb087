"""DPT on TIPS v2, https://arxiv.org/abs/2604.12012: metres and surface normals of one encoder."""

from __future__ import annotations

from types import SimpleNamespace

from torch import Tensor
from torch.nn.functional import interpolate, normalize
from transformers import Tipsv2DptForDensePrediction, Tipsv2DptForDepthEstimation

from mmseg_siglip.models.compiled import compilable
from mmseg_siglip.models.depth_models.published import Parts, PublishedDepth, Seen
from mmseg_siglip.registry import DEPTH_MODELS
from mmseg_siglip.weights.source import Source


@DEPTH_MODELS.register_module()
class TIPSDepth(PublishedDepth):
    """transformers' folders (``google/tipsv2-b14-dpt``), of depth, normals and classes or of depth.

    The decoder of classes is let go. Normals are handed out as they come, at unit length: which way
    the axes of the published weights point was not to be found out without them.
    """

    model_types = ('tipsv2_dpt',)
    predicts = 'depth'

    def __init__(self, source: Source) -> None:
        parts = Parts.of_transformers(source, self.model_types)
        alone = Tipsv2DptForDepthEstimation.__name__ in (parts.config.architectures or ())
        self.has_normals = not alone
        self.kind = Tipsv2DptForDepthEstimation if alone else Tipsv2DptForDensePrediction
        super().__init__(source, parts)
        if self.has_normals:
            self.model.segmentation_neck = self.model.segmentation_decoder = None

    @compilable
    def compute(self, pixels: Tensor) -> Seen:
        """One pass of the encoder for both decoders."""
        model = self.model
        if not self.has_normals:
            return super().compute(pixels)
        patch = model.config.backbone_config.patch_size
        grid = tuple(side // patch for side in pixels.shape[-2:])
        maps = model.backbone(pixels).feature_maps
        logits = model.depth_decoder(model.depth_neck(maps, *grid)[-1])
        normals = model.normals_decoder(model.normals_neck(maps, *grid)[-1])
        depth = model.depth_bin_regressor(logits)
        return SimpleNamespace(predicted_depth=depth, normals=normals)

    def normals_of(self, outputs: Seen, size: tuple[int, int]) -> Tensor:
        if not self.has_normals:
            return super().normals_of(outputs, size)
        normals = normalize(outputs.normals.float(), dim=1)
        return normalize(interpolate(normals, size=size, mode='bilinear'), dim=1)
