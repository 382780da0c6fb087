"""Patches that took on a task of their own, found by their tokens, and what stands in their place.

Training of a ViT turns some patches into registers of the whole image. SC-CLIP
(https://arxiv.org/abs/2411.15869) finds them by their distance from other tokens, SFP (ICCV 2025)
also by their norm or by the attention that CLS pays them. Shapes: B images, grid (h, w),
N = h*w patches, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from mmseg_siglip.models.dense.similarity import chunks
from mmseg_siglip.precision import autocast

TINY = 1e-12


def neighbour_distances(tokens: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """Of (B, N, C) to each token's nearest others: squared distances and indices, (B, N, k) each,
    the nearest first; k is `neighbours`, or all others where they are fewer."""
    batch, count, _ = tokens.shape
    k = min(neighbours, count - 1)
    # Distances are differences of large squares where tokens have much in common.
    x = tokens.float() - tokens.float().mean(1, keepdim=True)
    square = x.square().sum(-1)
    found = []
    for part in chunks(count, 4 * batch * count, x.device):
        with autocast('fp32', x.device):
            dot = x[:, part] @ x.transpose(1, 2)
        distance = (square[:, part, None] + square[:, None] - 2 * dot).clamp(min=0)
        own = torch.arange(count, device=x.device)[part, None]
        distance.scatter_(2, own.expand(batch, -1, 1), float('inf'))
        found.append(distance.topk(k, largest=False))
    return tuple(torch.cat(parts, dim=1) for parts in zip(*found, strict=True))


def outlier_factor(tokens: Tensor, neighbours: int = 30) -> Tensor:
    """How much lonelier a token is than its neighbours, (B, N, C) to (B, N) float32.

    With d_i the squared distance to the last of the k nearest others of i, it is the mean of
    d_i / d_j over those: what SC-CLIP's code computes for the local outlier factor. (That takes the
    neighbour's reach where this has the token's own.) Tokens that coincide have 1.
    """
    if tokens.shape[1] == 1:
        return tokens.new_ones(tokens.shape[:2], dtype=torch.float32)
    distance, nearest = neighbour_distances(tokens, neighbours)
    reach = distance[..., -1].clamp(min=TINY)
    theirs = reach.gather(1, nearest.flatten(1)).view_as(nearest)
    return (reach[..., None] / theirs).mean(-1)


def lof_outliers(tokens: Tensor, *, neighbours: int = 30, contamination: float = 0.05) -> Tensor:
    """The part `contamination` of an image's tokens (B, N, C) with the largest `outlier_factor`:
    (B, N) bool. None where all have the same."""
    score = outlier_factor(tokens.detach(), neighbours)
    return score > score.quantile(1 - contamination, dim=1, keepdim=True)


def largest(values: Tensor, count: int, among: Tensor | None = None) -> Tensor:
    """The `count` largest of each row (B, N), `among` some (B, N) or all of them: (B, N) bool."""
    among = torch.ones_like(values, dtype=torch.bool) if among is None else among
    ranked = values.masked_fill(~among, float('-inf'))
    best = ranked.topk(min(count, values.shape[1])).indices
    return torch.zeros_like(among).scatter_(1, best, True) & among


def repair(
    tokens: Tensor, outliers: Tensor, grid: tuple[int, int], *, lonely: str = 'keep'
) -> Tensor:
    """Put the mean of their 8 neighbours that are none in the place of outliers.

    Args:
        tokens: (B, N, C).
        outliers: (B, N) bool.
        grid: (h, w).
        lonely: What becomes of one whose neighbours are all outliers: ``keep`` it, or ``zero``.
    """
    fine = (~outliers)[..., None].to(tokens.dtype)
    total, count = (around(part.unflatten(1, grid)).flatten(1, 2) for part in (tokens * fine, fine))
    other = total / count.clamp(min=1)
    if lonely == 'keep':
        outliers = outliers & (count[..., 0] > 0)
    return torch.where(outliers[..., None], other, tokens)


def around(x: Tensor) -> Tensor:
    """Sums of 3 x 3 cells of (B, h, w, C), beyond whose border is 0."""
    for dim in (1, 2):
        wider = pad(x, (0, 0) * (3 - dim) + (1, 1))
        first, last = (wider.narrow(dim, start, x.shape[dim]) for start in (0, 2))
        x = first + x + last
    return x
