"""CLIP Surgery's feature surgery, https://arxiv.org/abs/2304.05653: what all words have in common
goes.

Shapes: n windows of (h, w) cells, Q words, D joint channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.scores.step import ScoreStep
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import MODELS

SHARPNESS = 2.0


@MODELS.register_module()
class FeatureSurgery(ScoreStep):
    """`feature_surgery` behind any dense method.

    Args:
        empty: See there.
    """

    def __init__(self, *, empty: bool | None = None) -> None:
        super().__init__()
        self.empty = empty

    def forward(self, cosines: Tensor, features: Tensor, trunk: Trunk) -> Tensor:
        return feature_surgery(cosines, features, trunk, empty=self.empty)


def feature_surgery(
    cosines: Tensor, features: Tensor, trunk: Trunk, *, empty: bool | None = None
) -> Tensor:
    """Cosines without the part that is redundant.

    Words are weighted by the window's own vector F (CLS, or as the encoder pools it): p =
    softmax(2 F Tᵀ), w = p / mean p. A word's score is w cos less the mean of w cos over all words,
    which is what subtracting mean features channel by channel comes to, without them.

    One word has nothing in common with others. It loses the cosine of the empty sentence instead.

    Args:
        cosines: (n, Q, h, w).
        features: (n, D, h, w), not normalised.
        trunk: The windows.
        empty: Whether to subtract the cosine of the empty sentence and nothing else; by default,
            where there is one word.

    Returns:
        (n, Q, h, w) float32.
    """
    text = trunk.text.float()
    with autocast('fp32', cosines.device):
        if empty or (empty is None and len(text) == 1):
            unit = normalize(features.float(), dim=1)
            return cosines.float() - torch.einsum('ndhw,qd->nqhw', unit, trunk.embed(['']))
        share = (SHARPNESS * normalize(trunk.pooled.float(), dim=-1) @ text.T).softmax(-1)
        weighted = (share / share.mean(-1, keepdim=True))[..., None, None] * cosines.float()
        return weighted - weighted.mean(1, keepdim=True)
