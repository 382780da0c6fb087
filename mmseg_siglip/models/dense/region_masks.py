"""Regions as masks over an image in one piece, and scores of regions as scores of pixels.

Shapes: an image (H, W), R regions, Q words.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.models.backbones.block import CHUNK_BYTES
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.spans import spanned


def whole_image(trunk: Trunk, name: str) -> None:
    """Refuse a batch, for a method that looks at the image in its own way.

    Raises:
        ValueError: There are several.
    """
    if len(trunk.images) != 1:
        raise ValueError(
            f'{name!r} cuts the image itself: expected one image, found {len(trunk.images)}'
        )


def region_masks(trunk: Trunk) -> Tensor:
    """The regions of the one image as masks (R, H, W) bool, over what the encoder's grid spans."""
    (regions,) = trunk.regions
    if regions.ndim == 2:
        names = regions.unique()
        regions = regions == names[names > 0][:, None, None]
    return spanned(regions, trunk.grid, trunk.encoder.patch_size)


def paint(scores: Tensor, masks: Tensor, fill: Tensor | None, *, add: bool = False) -> Tensor:
    """Scores of pixels, (Q, H, W).

    Args:
        scores: (R, Q) of regions.
        masks: (R, H, W) bool.
        fill: (Q, h, w) for pixels in no region, brought to their size bilinearly; 0 if None.
        add: Sum the scores of regions that overlap; else their mean.
    """
    size = tuple(masks.shape[1:])
    total = scores.new_zeros(scores.shape[1], size[0] * size[1])
    step = max(1, CHUNK_BYTES // (4 * max(1, len(masks))))
    for first in range(0, total.shape[1], step):
        part = masks.flatten(1)[:, first : first + step].to(scores.dtype)
        count = 1 if add else part.sum(0).clamp(min=1)
        total[:, first : first + step] = scores.T @ part / count
    total = total.unflatten(1, size)
    if fill is None:
        return total
    dense = interpolate(fill[None].to(total.dtype), size=size, mode='bilinear')[0]
    return torch.where(masks.any(0), total, dense)
