"""Correlations: who shares values with whom, by the features of a guide.

Each is a function of some rows of cosines, so that no more than a chunk of them exists at a time.
Shapes: B windows, M cells, R of them as queries, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import torch
from torch import Tensor

from mmseg_siglip.device import at_once
from mmseg_siglip.models.backbones.block import CHUNK_BYTES

Weigh = Callable[[Tensor, slice, slice], Tensor]
"""Cosines (b, R, M), which windows and which queries they are, to weights of the same shape."""


def mean_cosine(features: Tensor) -> Tensor:
    """The mean over all pairs of unit features (B, M, C) of each window: (B, 1, 1)."""
    return features.mean(1, dtype=torch.float64).square().sum(-1)[:, None, None].to(features.dtype)


def proxy(
    cosines: Tensor, mean: Tensor, *, beta: float, gamma: float, first: int | None = 0
) -> Tensor:
    """softmax over what is not negative of gamma (S - beta m): ProxyCLIP's.

    Args:
        cosines: (..., R, M), S.
        mean: m, anything that broadcasts to it.
        beta: See the formula.
        gamma: See the formula.
        first: Of the queries, so that each keeps itself whatever the mean is; None to let a query
            lose all, which gives NaN.
    """
    logits = gamma * (cosines - beta * mean)
    below = logits < 0
    if first is not None:
        below.diagonal(first, -2, -1).fill_(False)
    return logits.masked_fill(below, -inf).softmax(-1)


def share_values(features: Tensor, values: Tensor, weigh: Weigh) -> Tensor:
    """Values (B, M, V) mixed by what `weigh` makes of the cosines of unit features (B, M, C), some
    rows at a time: (B, M, V)."""
    count, cells = features.shape[:2]
    many, step = (at_once(size, features.device, CHUNK_BYTES) for size in (4 * cells**2, 4 * cells))
    mixed = []
    for start in range(0, count, many):
        windows = slice(start, start + many)
        own, shared = features[windows], values[windows]
        rows = []
        for first in range(0, cells, step):
            queries = slice(first, min(first + step, cells))
            cosines = own[:, queries] @ own.transpose(1, 2)
            rows.append(weigh(cosines, windows, queries) @ shared)
        mixed.append(torch.cat(rows, dim=1))
    return torch.cat(mixed)
