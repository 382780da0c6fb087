"""A score step: what words get at a window's cells, of what they have by their cosines."""

from __future__ import annotations

from abc import abstractmethod

from mmengine.model import BaseModule
from torch import Tensor

from mmseg_siglip.models.backbones.trunk import Trunk


class ScoreStep(BaseModule):
    """Acts on the cosines of windows, before they are merged; registered in ``MODELS``.

    Means and maxima are taken over one window, never over the batch. What needs the whole image is
    a postprocessor.

    Attributes:
        sees_windows: Whether it asks `forward`'s trunk for what is of its windows. Such a step fits
            no dense method that gives one map for the image.
    """

    sees_windows = True

    @abstractmethod
    def forward(self, cosines: Tensor, features: Tensor, trunk: Trunk) -> Tensor:
        """Cosines (n, Q, h, w) to scores of the same shape.

        Args:
            cosines: What an earlier step, or the dense method, gave.
            features: (n, D, h, w) of the joint space, not normalised.
            trunk: The windows in the encoder: all that it computed is at hand.
        """
