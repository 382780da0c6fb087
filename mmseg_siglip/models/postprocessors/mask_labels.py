"""What masks are called by a dense prediction, and how they are laid over it.

Shapes: M masks, Q query words, C classes, D joint channels, (H, W) pixels, features (D, h, w).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, normalize

from mmseg_siglip.device import at_once
from mmseg_siglip.models.backbones.block import CHUNK_BYTES
from mmseg_siglip.models.labelling import owners

LABELS = ('vote', 'mean_logit', 'pooled_feature')
ORDERS = ('score', 'small_on_top', 'large_on_top')
TIE = 100  # scores that agree to this part of 1 are equal


@dataclass(frozen=True)
class MaskSums:
    """What a dense prediction holds under each mask.

    Attributes:
        area: (M,) pixels.
        votes: (M, C) pixels of each class.
        means: (M, Q) mean cosines.
    """

    area: Tensor
    votes: Tensor
    means: Tensor


def sums(masks: Iterable[Tensor], logits: Tensor, query_to_class: Sequence[int]) -> MaskSums:
    """Sum up under masks (m, H, W) bool, which come some at a time.

    Args:
        masks: At the size of the logits.
        logits: (Q, H, W) cosines.
        query_to_class: Class of each word.
    """
    owner = owners(query_to_class, logits.device)
    classes, flat = max(query_to_class) + 1, logits.flatten(1)
    labels = owner[flat.argmax(0)]
    areas, votes, means = [], [], []
    for part in masks:
        part = part.flatten(1)
        mask, pixel = part.nonzero(as_tuple=True)
        count = torch.bincount(mask * classes + labels[pixel], minlength=len(part) * classes)
        area = part.sum(1)
        areas.append(area)
        votes.append(count.reshape(len(part), classes))
        means.append(part.to(flat.dtype) @ flat.T / area.clamp(min=1)[:, None])
    empty = logits.new_zeros
    return MaskSums(
        torch.cat(areas) if areas else empty(0, dtype=torch.long),
        torch.cat(votes) if votes else empty((0, classes), dtype=torch.long),
        torch.cat(means) if means else empty((0, len(flat))),
    )


def pooled_cosines(masks: Iterable[Tensor], features: Tensor, text: Tensor) -> Tensor:
    """(M, Q) cosines of the mean feature under each mask.

    A mask weighs each cell of the features by the part of it that it covers. One that covers less
    than a cell in all takes the feature at its centre, between cells.

    Args:
        masks: (m, H, W) bool, some at a time.
        features: (D, h, w).
        text: (Q, D), of unit length.
    """
    size, flat, scores = tuple(features.shape[-2:]), features.flatten(1), []
    for part in masks:
        weights = interpolate(part[None].to(features.dtype), size=size, mode='area')[0].flatten(1)
        pooled = weights @ flat.T
        tiny = weights.sum(1) < 1
        if tiny.any():
            pooled[tiny] = at_centres(part[tiny], features)
        scores.append(normalize(pooled, dim=-1) @ text.T)
    return torch.cat(scores) if scores else features.new_zeros(0, len(text))


def at_centres(masks: Tensor, features: Tensor) -> Tensor:
    """Features (m, D) at the centres of mass of masks (m, H, W), bilinear."""
    height, width = masks.shape[-2:]
    weights = masks.to(features.dtype)
    area = weights.sum((1, 2)).clamp(min=1)
    rows, columns = (torch.arange(n, device=masks.device) + 0.5 for n in (height, width))
    y = (weights.sum(2) @ rows) / area / height
    x = (weights.sum(1) @ columns) / area / width
    grid = torch.stack([x, y], dim=-1)[None, :, None] * 2 - 1
    sampled = grid_sample(features[None], grid, padding_mode='border', align_corners=False)
    return sampled[0, :, :, 0].T


def choose(scores: Tensor, query_to_class: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Class (M,) of the best word of scores (M, Q), and its lead over the best other class."""
    owner = owners(query_to_class, scores.device)
    classes = max(query_to_class) + 1
    best = scores.new_full((len(scores), classes), -torch.inf)
    best.scatter_reduce_(1, owner.expand_as(scores), scores, 'amax')
    if classes == 1:
        return owner.new_zeros(len(scores)), scores.new_full((len(scores),), torch.inf)
    values, labels = best.topk(2, dim=1)
    return labels[:, 0], values[:, 0] - values[:, 1]


def paint_rank(order: str, scores: Tensor, area: Tensor) -> Tensor:
    """(M,) when each mask is painted: later ones lie on top.

    ``score``: the best on top, of about equal ones the smallest; ``small_on_top`` as in
    Semantic-Segment-Anything; ``large_on_top`` as in CorrCLIP with SAM 2.
    """
    size = area.double()
    keys = dict(
        score=lambda: (scores.double() * TIE).round() * (size.max() + 1) - size,
        small_on_top=lambda: -size,
        large_on_top=lambda: size,
    )
    if not len(area):
        return area
    rank = torch.empty_like(area)
    rank[keys[order]().argsort(stable=True)] = torch.arange(len(area), device=area.device)
    return rank


def winners(masks: Iterable[tuple[slice, Tensor]], rank: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W) index of the mask on top of each pixel, -1 where there is none."""
    top = rank.new_full(size, -1)
    for part, values in masks:
        here = torch.where(values, rank[part][:, None, None], -1).amax(0)
        top = torch.maximum(top, here)
    index = rank.new_full((len(rank) + 1,), -1, dtype=torch.long)
    index[rank] = torch.arange(len(rank), device=rank.device)
    return index[top]


def label_map(regions: Tensor) -> Tensor:
    """A label map (H, W) int64 of regions in either form, 0 is none.

    Args:
        regions: A label map, which stays as it is, or masks (M, H, W) bool. Those are labelled from
            1, and the larger one lies on top.
    """
    if regions.ndim == 2:
        return regions
    size = tuple(regions.shape[-2:])
    if not len(regions):
        return regions.new_zeros(size, dtype=torch.long)
    area = areas(in_parts(regions))
    rank = paint_rank('large_on_top', area, area)
    return winners(in_parts(regions), rank, size) + 1


def in_parts(masks: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Masks (M, H, W), some at a time, and which ones they are; see `Proposals.masks`."""
    step = at_once(8 * masks.shape[1] * masks.shape[2], masks.device, CHUNK_BYTES)
    for first in range(0, len(masks), step):
        part = slice(first, first + step)
        yield part, masks[part]


def areas(masks: Iterable[tuple[slice, Tensor]]) -> Tensor:
    """Pixels of each mask (M,), of one at least."""
    return torch.cat([part.flatten(1).sum(1) for _, part in masks])


def fuse(
    logits: Tensor, top: Tensor, query: Tensor, means: Tensor, confidence: Tensor, alpha: float
) -> Tensor:
    """Lay labelled masks over cosines, softly.

    ``(1 - a c) L + a c H``, with ``c`` the mask's confidence and ``H`` a one-hot vote for its word
    in units of cosines: the highest of the mask's mean cosines for that word, the lowest for all
    others. With a = 0 nothing changes.

    Args:
        logits: (Q, H, W).
        top: (H, W), index of the mask that counts at each pixel, or -1.
        query: (M,), the word of each mask.
        means: (M, Q).
        confidence: (M,) in [0, 1].
        alpha: a.
    """
    if not len(query):
        return logits
    index, inside = top.clamp(min=0), top >= 0
    weight = torch.where(inside, alpha * confidence[index], 0).to(logits.dtype)
    low, high = means.amin(1), means.amax(1)
    fused = torch.lerp(logits, low[index].expand_as(logits), weight.expand_as(logits))
    return fused.scatter_add_(0, query[index][None], (weight * (high - low)[index])[None])


def withdraw(
    logits: Tensor,
    left: Tensor,
    labels: Tensor,
    means: Tensor,
    confidence: Tensor,
    alpha: float,
    query_to_class: Sequence[int],
) -> Tensor:
    """Take a class from pixels: its words fall to the lowest mean cosine of the mask, softly.

    Args:
        logits: (Q, H, W).
        left: (H, W), index of the mask whose class a pixel gives up, or -1.
        labels: (M,), class of each mask.
        means: (M, Q).
        confidence: (M,) in [0, 1].
        alpha: Weight, as in `fuse`.
        query_to_class: Class of each word.
    """
    index = left.clamp(min=0)
    weight = torch.where(left >= 0, alpha * confidence[index], 0).to(logits.dtype)
    owner = owners(query_to_class, logits.device)
    own = owner[:, None, None] == labels[index]
    return torch.lerp(logits, means.amin(1)[index].expand_as(logits), weight * own)
