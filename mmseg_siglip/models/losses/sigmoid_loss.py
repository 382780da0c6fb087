"""Pairwise sigmoid loss for image-text pre-training, https://arxiv.org/abs/2303.15343.

Shapes: N images and M texts in D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize

from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class SigmoidLoss(nn.Module):
    """Every image-text pair is its own yes-or-no question, so any number of them may be "yes".

    ``-1/N * sum_ij log sigmoid(z_ij * (scale * cos(image_i, text_j) + bias))`` with z = 1 where
    the text is true of the image and -1 elsewhere; computed in float32.

    Args:
        loss_weight: Factor on the result.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self,
        images: Tensor,
        texts: Tensor,
        *,
        scale: Tensor,
        bias: Tensor,
        positives: Tensor,
        ignored: Tensor | None = None,
    ) -> Tensor:
        """Scalar loss.

        Args:
            images: (N, D), normalised here.
            texts: (M, D), normalised here.
            scale: Factor on cosines, already exponentiated; scalar.
            bias: Scalar added to the scaled cosines.
            positives: (N, M) bool, where the text is true of the image.
            ignored: (N, M) bool, pairs left out of the sum.

        Raises:
            ValueError: If the sizes do not agree.
        """
        expected = (len(images), len(texts))
        if tuple(positives.shape) != expected:
            raise ValueError(
                f'SigmoidLoss: expected positives of shape {expected} for {expected[0]} images and '
                f'{expected[1]} texts, found {tuple(positives.shape)}'
            )
        with torch.autocast(images.device.type, enabled=False):
            cosines = normalize(images.float(), dim=-1) @ normalize(texts.float(), dim=-1).T
            logits = cosines * scale.float() + bias.float()
            losses = -logsigmoid(torch.where(positives, logits, -logits))
            if ignored is not None:
                losses = losses.masked_fill(ignored, 0)
            return self.loss_weight * losses.sum() / max(1, len(images))
