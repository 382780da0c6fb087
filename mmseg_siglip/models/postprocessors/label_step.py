"""A label step: what becomes of an image's labels once thresholds have had their say."""

from __future__ import annotations

from abc import abstractmethod

from mmengine.model import BaseModule

from mmseg_siglip.models.labelling import Labels
from mmseg_siglip.models.postprocessors.context import Context


class LabelStep(BaseModule):
    """Acts on the labels of one image; registered in ``MODELS``.

    Attributes:
        needs_probabilities: Whether it asks for ``Labels.probabilities``, (C, H, W).
        needs_features: Whether it asks for ``Context.features``.
    """

    needs_probabilities = needs_features = False

    @abstractmethod
    def forward(self, found: Labels, context: Context) -> Labels:
        """Labels (H, W), in [0, C) of C classes, and their probabilities to the same; `context` is
        that of one image."""
