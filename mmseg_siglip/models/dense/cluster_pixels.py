"""Pixels of clusters of patches: which cluster each joins, and what those of one have in common.

Shapes: grid (h, w), n = h*w patches, an image (H, W), Q words, K clusters.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import interpolate, one_hot

from mmseg_siglip.models.dense.similarity import chunks
from mmseg_siglip.models.dense.spans import mirrored
from mmseg_siglip.models.windows.stitch import Stitch

FINER = 4
MEDIAN = 7


def cluster_map(
    points: Tensor, clusters: Tensor, grid: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """The cluster of each pixel, (H, W) int64, by where its mean row is highest.

    Args:
        points: (n, n).
        clusters: (n,), of which K are no noise.
        grid: (h, w).
        size: (H, W).
    """
    member = one_hot(clusters + 1)[:, 1:].to(points.dtype)
    means = (member.T @ points) / member.sum(0)[:, None]
    finer = interpolate(means.unflatten(1, grid)[None], scale_factor=FINER, mode='bilinear')
    best, place = means.new_full(size, -1.0), clusters.new_zeros(size)
    for index, plane in enumerate(finer[0]):
        plane = interpolate(median_filter(plane)[None, None], size=size, mode='bilinear')[0, 0]
        better = plane > best
        best, place = torch.where(better, plane, best), torch.where(better, index, place)
    return place


def median_filter(plane: Tensor) -> Tensor:
    """The middle one of 7 x 7 values around each of a plane (h, w), whose border is mirrored."""
    h, w = plane.shape
    reach = MEDIAN // 2
    rows, columns = (mirrored(side, reach, plane.device, twice=True) for side in (h, w))
    around = plane[rows][:, columns].unfold(0, MEDIAN, 1).unfold(1, MEDIAN, 1)
    return around.flatten(2).median(2).values


def shares_of(labels: Tensor, place: Tensor, count: int, classes: int) -> Tensor:
    """How much of each cluster has which label, (K, C) in [0, 1], by the label and the cluster of
    each pixel (H, W)."""
    votes = torch.bincount((place * classes + labels).flatten(), minlength=count * classes)
    votes = votes.view(count, classes)
    return votes / votes.sum(1, keepdim=True).clamp(min=1)


def in_rows(pixels: Stitch) -> Iterator[tuple[slice, Tensor]]:
    """Planes (Q, H, W) some rows at a time: which, and (Q, rows, W)."""
    (words, *_), height, width = pixels.planes.shape, len(pixels.down), len(pixels.across)
    for part in chunks(height, 4 * words * width, pixels.planes.device):
        yield part, pixels.rows(part.start, min(part.stop, height))


def mean_scores(pixels: Stitch, place: Tensor, count: int) -> Tensor:
    """The mean of each cluster's pixels, (Q, K), by the cluster of each (H, W)."""
    total = pixels.planes.new_zeros(len(pixels.planes), count, dtype=torch.float64)
    for rows, part in in_rows(pixels):
        where = place[rows].flatten().expand(len(part), -1)
        total.scatter_add_(1, where, part.flatten(1).double())
    pixels_of = torch.bincount(place.flatten(), minlength=count)
    return (total / pixels_of.clamp(min=1)).float()
