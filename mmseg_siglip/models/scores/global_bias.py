"""SegEarth-OV's global bias, https://arxiv.org/abs/2410.01768."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.scores.step import ScoreStep
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class GlobalBias(ScoreStep):
    """Take from each patch what its whole window says of a word.

    s(patch, word) = cos(patch, word) - factor * cos(pooled, word), where ``pooled`` is the
    encoder's own vector of the window: CLIP's class token, the pooling head's output of SigLIP (for
    which nothing is published).

    Args:
        factor: 0.3 as published.
    """

    def __init__(self, *, factor: float = 0.3) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, cosines: Tensor, features: Tensor, trunk: Trunk) -> Tensor:
        pooled = normalize(trunk.pooled.float(), dim=1)
        with autocast('fp32', pooled.device):
            bias = torch.einsum('nd,qd->nq', pooled, trunk.text)
        return cosines - self.factor * bias[:, :, None, None]
