"""Key smoothing, of MaskCLIP (https://arxiv.org/abs/2112.01071): where no word is sure, patches
with like keys decide together.

Shapes: n windows, Q query words, grid (h, w), N = h*w patches, C channels of keys.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

from mmseg_siglip.device import at_once
from mmseg_siglip.models.backbones.block import CHUNK_BYTES, merge_heads
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.scores.step import ScoreStep
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import MODELS

LEAST = 1e-30
"""Probability that stands for 0, whose logarithm is finite."""


@MODELS.register_module()
class KeySmoothing(ScoreStep):
    """Probabilities of unsure patches become means over all patches, those with like keys first.

    Keys are those of the attention that the dense method replaces, all heads side by side. Weights
    are cosines of keys, negative ones 0, divided by their sum. What is given is the logarithm of
    probabilities over the scale, by whose softmax they are had again.

    Args:
        threshold: Patches whose best probability is lower are unsure; 1, as published, means all
            but those where a probability is rounded to 1.
        logit_scale: Factor on cosines; that of the segmentor if None. 100 is published.
        parity: As the published code does it. There each channel of the keys is divided by its
            length over all patches, so that weights may be negative and have no common sum; and
            what is given are the probabilities themselves.

    Raises:
        ValueError: A threshold out of range.
    """

    def __init__(
        self,
        *,
        threshold: float = 1.0,
        logit_scale: float | None = None,
        parity: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= threshold <= 1:
            raise ValueError(f'KeySmoothing: expected threshold in [0, 1], found {threshold}')
        self.threshold, self.logit_scale, self.parity = threshold, logit_scale, parity

    def forward(self, cosines: Tensor, features: Tensor, trunk: Trunk) -> Tensor:
        if tuple(cosines.shape[-2:]) != trunk.grid:
            raise ValueError(
                f"KeySmoothing: expected scores of the encoder's own {trunk.grid} patches, "
                f'found {tuple(cosines.shape[-2:])} cells; leave the upsampler out'
            )
        scale = trunk.logit_scale if self.logit_scale is None else self.logit_scale
        keys = merge_heads(trunk.last.qkv()[1])[:, trunk.prefix :]
        with autocast('fp32', cosines.device):
            found = smooth(
                (scale * cosines).softmax(1), keys.float(), self.threshold, parity=self.parity
            )
        return found if self.parity else found.clamp(min=LEAST).log() / scale


def smooth(
    probabilities: Tensor, keys: Tensor, threshold: float, *, parity: bool = False
) -> Tensor:
    """See `KeySmoothing`.

    Args:
        probabilities: (n, Q, h, w).
        keys: (n, N, C).
        threshold: Patches whose best probability is lower are smoothed.
        parity: Whether keys are normalised over patches, and weights not at all.

    Returns:
        (n, Q, h, w).
    """
    flat = probabilities.flatten(2).transpose(1, 2)  # (n, N, Q)
    unit = normalize(keys, dim=1 if parity else 2)
    step = at_once(4 * keys[..., 0].numel(), keys.device, CHUNK_BYTES)
    parts = []
    for chunk in unit.split(step, dim=1):
        weights = chunk @ unit.transpose(1, 2)
        if not parity:
            weights = relu(weights)
            weights = weights / weights.sum(2, keepdim=True).clamp(min=LEAST)
        parts.append(weights @ flat)
    unsure = flat.amax(2, keepdim=True) < threshold
    found = torch.where(unsure, torch.cat(parts, dim=1), flat)
    return found.transpose(1, 2).unflatten(2, probabilities.shape[2:])
