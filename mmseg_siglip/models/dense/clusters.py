"""Clusters of patches: DBSCAN (Ester et al., KDD 1996) on rows of a correlation.

Shapes: N points of F features.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmseg_siglip.device import at_once
from mmseg_siglip.models.backbones.block import CHUNK_BYTES

NOISE = -1


def neighbour_graph(points: Tensor, reach: float) -> Tensor:
    """Which points (N, F) lie within a Euclidean distance of each other, (N, N) bool, in float64:
    the diagonal is true."""
    points = points.double()
    squares = points.square().sum(1)
    step = at_once(8 * len(points), points.device, CHUNK_BYTES)
    parts = []
    for part, own in zip(points.split(step), squares.split(step), strict=True):
        square = own[:, None] - 2 * part @ points.T + squares
        parts.append(square.clamp(min=0).sqrt() <= reach)
    near = torch.cat(parts)
    near.fill_diagonal_(True)
    return near


def dbscan(near: Tensor, least: int) -> Tensor:
    """Clusters of a neighbour graph.

    A core has at least `least` neighbours, itself among them; cores that are neighbours are of one
    cluster. Any other point belongs to the first cluster that has a core beside it.

    Args:
        near: (N, N) bool, symmetric, its diagonal true.
        least: Neighbours of a core.

    Returns:
        (N,) int64 on the graph's device: clusters from 0 in the order of their first cores, and
        `NOISE`.
    """
    graph = near.cpu().numpy()
    core = graph.sum(1) >= least
    labels = np.full(len(graph), NOISE)
    cluster = 0
    for start in np.flatnonzero(core):
        if labels[start] != NOISE:
            continue
        front = np.array([start])
        while len(front):
            labels[front] = cluster
            reached = graph[front[core[front]]].any(0)
            front = np.flatnonzero(reached & (labels == NOISE))
        cluster += 1
    return torch.from_numpy(labels).to(near.device)
