"""Losses on inverse depth that is known up to a scale and a shift.

MiDaS, https://arxiv.org/abs/1907.01341. Shapes: B images of (H, W).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mmseg_siglip.models.losses.depth_validity import (
    check_shapes,
    inverse_depth,
    masked_mean,
    mean_over_images,
    valid_depth,
)
from mmseg_siglip.registry import MODELS

FLAT = 1e-12  # variance below which a map has no scale


def align(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """scale * prediction + shift, nearest to the truth of each image in least squares.

    A map without variance is replaced by the mean of the truth. All (B, H, W).
    """
    mean, mean_truth = masked_mean(prediction, mask), masked_mean(truth, mask)
    centred = prediction - mean[:, None, None]
    covariance = masked_mean(centred * (truth - mean_truth[:, None, None]), mask)
    variance = masked_mean(centred**2, mask)
    flat = variance <= FLAT
    scale = torch.where(flat, 0, covariance / torch.where(flat, 1, variance))
    return scale[:, None, None] * centred + mean_truth[:, None, None]


class InverseDepthLoss(nn.Module, ABC):
    """What the losses below share: both maps as inverse depth, in float32, and the valid pixels.

    Args:
        predicts: What the prediction is: ``inverse`` depth or ``depth``, metres.
        min_depth: Metres; truth at or below counts as missing.
        max_depth: Metres; truth above counts as missing.
        loss_weight: Factor.
        loss_name: Key of the result.
    """

    def __init__(
        self,
        *,
        predicts: str = 'inverse',
        min_depth: float = 1e-3,
        max_depth: float = float('inf'),
        loss_weight: float = 1.0,
        loss_name: str,
    ) -> None:
        super().__init__()
        if predicts not in ('inverse', 'depth'):
            raise ValueError(
                f"{type(self).__name__}.predicts: expected 'inverse' or 'depth', found {predicts!r}"
            )
        self.predicts, self.loss_weight, self.loss_name = predicts, loss_weight, loss_name
        self.min_depth, self.max_depth = min_depth, max_depth

    def forward(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """A scalar, 0 if no pixel is valid.

        Args:
            prediction: (B, H, W), see `predicts`.
            truth: (B, H, W), metres; 0, negative or not finite where there is none.
        """
        check_shapes(prediction, truth, type(self).__name__)
        with torch.autocast(prediction.device.type, enabled=False):
            prediction, truth = prediction.float(), truth.float()
            mask = valid_depth(truth, self.min_depth, self.max_depth)
            target = inverse_depth(truth, mask)
            if self.predicts == 'depth':
                prediction = inverse_depth(prediction, mask)
            return self.loss_weight * mean_over_images(self.compare(prediction, target, mask), mask)

    @abstractmethod
    def compare(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """One value an image, (B,), from inverse depths (B, H, W)."""


@MODELS.register_module()
class ScaleShiftInvariantLoss(InverseDepthLoss):
    """Distance of inverse depths after the best scale and shift of each image.

    Args:
        norm: ``mse``, half the mean square, or ``mae``, half the mean distance.
        trim: Part of each image's pixels left out, those farthest off; MiDaS takes 0.2 with
            ``mae``.
    """

    def __init__(
        self,
        *,
        norm: str = 'mse',
        trim: float = 0.0,
        loss_name: str = 'loss_ssi',
        **kwargs,
    ) -> None:
        super().__init__(loss_name=loss_name, **kwargs)
        if norm not in ('mse', 'mae'):
            raise ValueError(
                f"ScaleShiftInvariantLoss.norm: expected 'mse' or 'mae', found {norm!r}"
            )
        if not 0 <= trim < 1:
            raise ValueError(f'ScaleShiftInvariantLoss.trim: expected [0, 1), found {trim}')
        self.norm, self.trim = norm, trim

    def compare(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        residual = (align(prediction, target, mask) - target).abs()
        if self.trim:
            mask = mask & self._near(residual.detach(), mask)
        return 0.5 * masked_mean(residual**2 if self.norm == 'mse' else residual, mask)

    def _near(self, residual: Tensor, mask: Tensor) -> Tensor:
        """The pixels that stay, the nearest first: (B, H, W) bool."""
        far = torch.where(mask, residual, float('inf')).flatten(1)
        rank = far.argsort(dim=1, stable=True).argsort(dim=1)
        kept = (mask.flatten(1).sum(1) * (1 - self.trim)).ceil()
        return (rank < kept[:, None]).view_as(mask)


@MODELS.register_module()
class GradientMatchingLoss(InverseDepthLoss):
    """Steps of the residual between neighbours, at several scales: sharp where the truth is.

    At scale k every 2^k-th pixel counts; a step counts where both of its pixels are valid, and
    the sum is divided by the number of valid pixels of that scale, as in MiDaS.

    Args:
        scales: How many.
        aligned: Whether each image gets its best scale and shift first.
    """

    def __init__(
        self,
        *,
        scales: int = 4,
        aligned: bool = True,
        loss_name: str = 'loss_gradient',
        **kwargs,
    ) -> None:
        super().__init__(loss_name=loss_name, **kwargs)
        if scales < 1:
            raise ValueError(f'GradientMatchingLoss.scales: expected 1 or more, found {scales}')
        self.scales, self.aligned = scales, aligned

    def compare(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        if self.aligned:
            prediction = align(prediction, target, mask)
        residual = torch.where(mask, prediction - target, 0)
        total = residual.new_zeros(len(residual))
        for k in range(self.scales):
            step = 2**k
            part, valid = residual[:, ::step, ::step], mask[:, ::step, ::step]
            across = (part[:, :, 1:] - part[:, :, :-1]).abs() * (valid[:, :, 1:] & valid[:, :, :-1])
            down = (part[:, 1:] - part[:, :-1]).abs() * (valid[:, 1:] & valid[:, :-1])
            count = valid.sum((1, 2)).clamp(min=1)
            total = total + (across.sum((1, 2)) + down.sum((1, 2))) / count
        return total
