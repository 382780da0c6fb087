"""A region proposer: what finds the regions of an image."""

from __future__ import annotations

from abc import abstractmethod

from mmengine.model import BaseModule
from torch import Tensor


class RegionProposer(BaseModule):
    """Looks at one image; registered in ``MODELS``. Its model is `Frozen`.

    Attributes:
        supervised: Whether it learnt from labelled masks of the very kind that is looked for, so
            that a system with it is not training-free in a strict sense.
    """

    supervised = False

    @abstractmethod
    def forward(self, pixels: Tensor) -> Tensor:
        """(3, H, W), RGB in [0, 1], to a label map (H, W) int64, 0 is none, or where regions
        overlap masks (M, H, W) bool; without gradients."""
