"""What keeps the two aspects of a phrase apart, and ties one to what its mask shows.

RSRefSeg 2, https://arxiv.org/abs/2507.06231.

Shapes: R phrases of E channels, P of them about one image, C channels of its patches, on a grid
(h, w).
"""

from __future__ import annotations

import math

import torch
from mmengine.dist import all_gather, get_world_size
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather as differentiable_all_gather
from torch.nn.functional import (
    adaptive_avg_pool2d,
    cosine_similarity,
    cross_entropy,
    interpolate,
    normalize,
    pad,
)

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
    filled = adaptive_avg_pool2d(under_patches(masks, coverage), patches.shape[-2:]).flatten(1)
    total = filled.sum(1, keepdim=True)
    with torch.autocast(patches.device.type, enabled=False):
        means = filled @ patches.float().flatten(1).T / total.clamp(min=torch.finfo().tiny)
    return means, total[:, 0] > 0


def under_patches(masks: Tensor, coverage: tuple[float, float]) -> Tensor:
    """Masks (P, H, W) as floats of 0 and 1 over what the patches span; see `pool_regions`."""
    rows, columns = (
        max(1, round(side * part)) for side, part in zip(masks.shape[-2:], coverage, strict=True)
    )
    beyond = (0, columns - masks.shape[-1], 0, rows - masks.shape[-2])  # negative sides crop
    return pad((masks == 1).float(), beyond)


def pool_cells(patches: Tensor, masks: Tensor, coverage: tuple[float, float]) -> Tensor:
    """Sum of the patches whose centres lie in each mask, as RSRefSeg 2 pools, (P, C); 0 where a
    mask meets no centre. The outer centres are taken to lie on the masks' edges.

    The arguments are those of `pool_regions`.
    """
    masks = under_patches(masks, coverage)[:, None]
    inside = interpolate(masks, size=patches.shape[-2:], mode='bilinear', align_corners=True) > 0.5
    with torch.autocast(patches.device.type, enabled=False):
        return inside.flatten(1).float() @ patches.float().flatten(1).T


class PairedContrast(nn.Module):
    """InfoNCE of RSRefSeg 2: each region belongs to its own phrase and to none of the others of all
    processes' batches, both ways, at a learned temperature that begins as CLIP's."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(math.log(1 / TEMPERATURE)))

    def forward(self, regions: Tensor, texts: Tensor) -> Tensor:
        """A scalar of (R, C) and (R, C)."""
        with torch.autocast(regions.device.type, enabled=False):
            one, other = (
                of_all_processes(normalize(part.float(), dim=-1)) for part in (regions, texts)
            )
            logits = self.scale.exp() * one @ other.T
        truth = torch.arange(len(logits), device=logits.device)
        return (cross_entropy(logits, truth) + cross_entropy(logits.T, truth)) / 2


def of_all_processes(rows: Tensor) -> Tensor:
    """(R_i, C) of each process to (R, C).

    Each process's own rows get the sum of all processes' gradients, whose mean over processes, as
    `DistributedDataParallel` takes it, is the gradient of one batch.
    """
    if get_world_size() == 1:
        return rows
    counts = [int(n) for n in all_gather(torch.tensor([len(rows)], device=rows.device))]
    gathered = differentiable_all_gather(pad(rows, (0, 0, 0, max(counts) - len(rows))))
    return torch.cat([part[:n] for part, n in zip(gathered, counts, strict=True)])


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
