"""Prompt denoising, of MaskCLIP (https://arxiv.org/abs/2112.01071): what is nowhere likely is not
there.

Shapes: B images, Q query words, C classes, (H, W) pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmseg_siglip.device import at_once
from mmseg_siglip.models.labelling import CHUNK_BYTES, DROPPED, merge_words, owners
from mmseg_siglip.models.postprocessors.context import Context
from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class PromptDenoising(BaseModule):
    """Remove classes from an image whose highest probability in it is too low.

    A class has the highest of its words' probabilities, a softmax over all words of their scaled
    cosines, and all its words go. If none would be left, all stay. As a postprocessor it sees a
    merged image: a class that one window lacks may be in another. Published is the maximum over
    patches; here it is over pixels, and over each image alone.

    Args:
        threshold: Least maximum; .5 is published.
        logit_scale: Factor on cosines; that of the segmentor if None. 100 is published.

    Raises:
        ValueError: A threshold out of range.
    """

    def __init__(self, *, threshold: float = 0.5, logit_scale: float | None = None) -> None:
        super().__init__()
        if not 0 <= threshold <= 1:
            raise ValueError(f'PromptDenoising: expected threshold in [0, 1], found {threshold}')
        self.threshold, self.logit_scale = threshold, logit_scale

    @torch.no_grad()
    def forward(self, images: Tensor, logits: Tensor, context: Context) -> Tensor:
        """Cosines `logits` (B, Q, H, W), those of removed classes `DROPPED`; `images` are not
        used."""
        scale = context.logit_scale if self.logit_scale is None else self.logit_scale
        owner = owners(context.query_to_class, logits.device)
        kept = []
        for one in logits:
            highest = highest_probability(scale, one, context.query_to_class)
            there = highest >= self.threshold
            gone = ~there & there.any()
            kept.append(one.masked_fill(gone[owner, None, None], DROPPED))
        return torch.stack(kept)


def highest_probability(scale: float, cosines: Tensor, query_to_class: Sequence[int]) -> Tensor:
    """The highest probability of each class in an image, (C,); cosines (Q, H, W), some rows at a
    time."""
    rows = at_once(4 * cosines[:, 0].numel(), cosines.device, CHUNK_BYTES)
    parts = [(scale * part.float()).softmax(0).amax((1, 2)) for part in cosines.split(rows, dim=1)]
    words = torch.stack(parts).amax(0)
    return merge_words(words[:, None, None], query_to_class).flatten()
