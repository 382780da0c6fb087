"""Cosines of an image's patches with each other, and what they average.

The matrix of all pairs never exists where it is large: it is made some rows at a time, and again
where it is asked for again, which costs less than a hundredth of an encoder pass. One that is no
more than a chunk is kept.

Shapes: B images, N patches, C channels of what is compared, E of what is averaged.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmseg_siglip.device import at_once
from mmseg_siglip.models.backbones.block import CHUNK_BYTES
from mmseg_siglip.precision import autocast

EPS = 1e-6


def chunks(rows: int, row_bytes: int, device: torch.device) -> Iterator[slice]:
    """Some rows at a time, see `at_once`."""
    step = at_once(row_bytes, device, CHUNK_BYTES)
    yield from (slice(first, first + step) for first in range(0, rows, step))


class Similarity:
    """Cosines S of patches, in float32.

    Args:
        tokens: (B, N, C).
        floor: Where S is lower it counts as 0; None keeps it as it is.
    """

    def __init__(self, tokens: Tensor, floor: float | None = None) -> None:
        self.unit, self.floor = normalize(tokens.float(), dim=-1), floor
        self._all: Tensor | None = None

    def _rows(self) -> Iterator[Tensor]:
        """S (B, n, N), some rows after others."""
        if self._all is not None:
            yield self._all
            return
        batch, count, _ = self.unit.shape
        for part in chunks(count, 4 * batch * count, self.unit.device):
            with autocast('fp32', self.unit.device):
                s = self.unit[:, part] @ self.unit.transpose(1, 2)
            s = s if self.floor is None else zero_below(s, self.floor)
            self._all = s if s.shape[1] == count else None
            yield s

    @property
    def mean(self) -> Tensor:
        """Of all pairs of one image, (B, 1, 1)."""
        if self.floor is None:
            return self.unit.mean(1, keepdim=True).square().sum(-1, keepdim=True)
        total = sum(s.sum((1, 2), keepdim=True) for s in self._rows())
        return total / self.unit.shape[1] ** 2

    def aggregate(self, y: Tensor, threshold: float) -> Tensor:
        """Each of (B, N, E) becomes the mean of all that are at least so similar, weighted by S."""
        with autocast('fp32', y.device):
            parts = []
            for s in self._rows():
                s = zero_below(s, threshold)
                parts.append((s / (s.sum(-1, keepdim=True) + EPS)) @ y.float())
            return torch.cat(parts, dim=1)

    def sharpened(self, y: Tensor, sharpness: float, *, centred: bool = True) -> Tensor:
        """softmax(sharpness (S - mean S), negatives left out) y, for (B, N, E); without the mean
        unless `centred`.

        A row of which nothing is above the mean, for rounding's sake, keeps its largest.
        """
        mean = self.mean if centred else y.new_zeros((), dtype=torch.float32)
        with autocast('fp32', y.device):
            parts = []
            for s in self._rows():
                z = s - torch.minimum(mean, s.detach().amax(-1, keepdim=True))
                outside = z < 0
                z = z.mul_(sharpness).masked_fill_(outside, float('-inf'))
                parts.append(z.softmax(-1) @ y.float())
            return torch.cat(parts, dim=1)


def zero_below(s: Tensor, threshold: float) -> Tensor:
    return s.masked_fill(s < threshold, 0)
