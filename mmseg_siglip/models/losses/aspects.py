"""What keeps the two aspects of a phrase apart, and ties one to what its mask shows.

RSRefSeg 2, https://arxiv.org/abs/2507.06231.

Shapes: R phrases of E channels, P of them about one image, C channels of its patches, on a grid
(h, w).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity, normalize, pad

TEMPERATURE = 0.07  # of CLIP at its start


def aspect_overlap(aspects: Tensor) -> Tensor:
    """Squared cosine of the two aspects (R, 2, E) of each phrase: (R,), 0 at right angles."""
    return cosine_similarity(*aspects.float().unbind(1), dim=-1).square()


def pool_regions(
    patches: Tensor, masks: Tensor, coverage: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Mean patch of each mask, by the part of the patch that the mask fills.

    Args:
        patches: (C, h, w).
        masks: (P, H, W) of 0, 1, and 255 where nothing counts.
        coverage: Part of the image's height and width that the patches span from the top left; may
            be more than 1.

    Returns:
        (P, C), and (P,) bool, whether any patch sees the mask.
    """
    rows, columns = (
        max(1, round(side * part)) for side, part in zip(masks.shape[-2:], coverage, strict=True)
    )
    inside = (masks == 1).float()
    beyond = (0, columns - masks.shape[-1], 0, rows - masks.shape[-2])  # negative sides crop
    filled = adaptive_avg_pool2d(pad(inside, beyond), patches.shape[-2:]).flatten(1)
    total = filled.sum(1, keepdim=True)
    with torch.autocast(patches.device.type, enabled=False):
        means = filled @ patches.float().flatten(1).T / total.clamp(min=torch.finfo().tiny)
    return means, total[:, 0] > 0


def region_text_contrast(
    regions: Tensor, texts: Tensor, same: Tensor, temperature: float = TEMPERATURE
) -> Tensor:
    """InfoNCE of regions and phrases, both ways; what means the same is no negative.

    Args:
        regions: (R, E).
        texts: (R, E).
        same: (R, R) bool, symmetric, true on the diagonal: rows that share a phrase or a mask. The
            truth is spread evenly over them.
        temperature: Divides cosines.

    Returns:
        A scalar, 0 without any rows.
    """
    if not len(regions):
        return (regions.sum() + texts.sum()) * 0
    with torch.autocast(regions.device.type, enabled=False):
        cosines = normalize(regions.float(), dim=-1) @ normalize(texts.float(), dim=-1).T
    logits = cosines / temperature
    truth = same.float() / same.sum(1, keepdim=True)
    ways = (-(truth * way.log_softmax(1)).sum(1).mean() for way in (logits, logits.T))
    return sum(ways) / 2
