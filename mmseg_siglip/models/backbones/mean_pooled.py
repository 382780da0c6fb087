"""Encoders whose words were taught to meet the mean of an image's patches."""

from __future__ import annotations

from torch import Tensor

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.trunk import Trunk


class MeanPooled(VisionLanguageBackbone):
    """An encoder whose own vector of an image is the mean of its normed patches."""

    def pool(self, x: Tensor) -> Tensor:
        return self.norm(x[:, self.num_prefix :]).mean(1)

    def open_for_regions(self, trunk: Trunk) -> None:
        """See `VisionLanguageBackbone`; here it asks for the last output alone."""

    def region_vectors(self, trunk: Trunk, masks: Tensor) -> Tensor:
        """See `VisionLanguageBackbone`. The mean of a region's patches, by their weights: exact,
        and all patches together give `encode_image`."""
        self.require_pooling()
        patches = self.norm(trunk.output(-1)[:, self.num_prefix :]).float()
        weights = masks.to(patches)
        weights = weights.masked_fill(~weights.any(-1, keepdim=True), 1.0)
        return weights / weights.sum(-1, keepdim=True) @ patches
