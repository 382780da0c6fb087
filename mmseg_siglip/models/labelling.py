"""From cosines or probabilities of query words to one class a pixel.

Shapes: Q query words, C classes, an output of (H, W) pixels, which is gone through some rows at a
time so that nothing of size (Q, H, W) exists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from mmseg_siglip.device import at_once
from mmseg_siglip.kept import constant

CHUNK_BYTES = 64 * 2**20
DROPPED = -100.0
"""Logit of a word that a trained head did not look at."""

Rows = Callable[[int, int], Tensor]
"""(first, last) row to cosines (Q, last - first, W)."""


@dataclass(frozen=True)
class Labels:
    """What the pixels of one image got.

    Attributes:
        labels: (H, W) int64 class indices.
        scores: (H, W) float32, the label's probability; None if not asked for.
        probabilities: (C, H, W) float32; None if not asked for.
        finite: (), bool, whether all that the labels go by are numbers; else they mean nothing.
    """

    labels: Tensor
    scores: Tensor | None
    probabilities: Tensor | None
    finite: Tensor | bool = True


@dataclass(frozen=True)
class Labeller:
    """SCLIP's rules: https://arxiv.org/abs/2312.01597.

    A word's probability is the softmax over all query words of its scaled cosine; a class has the
    highest of its words'. So the best class is that of the best word, and its probability is
    1 / sum exp(l - l_best): the softmax itself is only computed where it is asked for.

    Attributes:
        query_to_class: Class index of each word.
        logit_scale: Factor on cosines.
        prob_thd: Pixels whose best probability is lower become background.
        area_thd: A foreground class that covers at most this part of the foreground, by argmax,
            is removed.
        background_index: The class that both thresholds refer to.
        device: Where it works, which says how many rows at a time.
    """

    query_to_class: Sequence[int]
    logit_scale: float
    prob_thd: float = 0.0
    area_thd: float | None = None
    background_index: int | None = None
    device: torch.device = torch.device('cpu')

    @property
    def num_classes(self) -> int:
        return max(self.query_to_class) + 1

    def __call__(
        self,
        rows: Rows,
        size: tuple[int, int],
        *,
        return_scores: bool = False,
        return_probabilities: bool = False,
    ) -> Labels:
        """Label an output of `size` (H, W)."""
        chunks = self.chunks(size)
        removed = self._small(rows, chunks) if self.area_thd is not None else None
        labels, scores, probabilities, finite = [], [], [], True
        for chunk in chunks:
            logits = rows(*chunk) * self.logit_scale
            owner = owners(self.query_to_class, logits.device)
            kept = logits
            if removed is not None:
                kept = logits.masked_fill(removed[owner, None, None], -inf)
            best, query = kept.max(0)
            finite = finite & best.isfinite().all()  # NaN anywhere is the highest
            label = owner[query]
            if self.prob_thd or return_scores:
                score = 1 / (logits - best).exp_().sum(0)
                scores.append(score)
                label[score < self.prob_thd] = self.background_index or 0
            labels.append(label)
            if return_probabilities:
                merged = merge_words(logits.softmax(0), self.query_to_class)
                if removed is not None:
                    merged = merged.masked_fill(removed[:, None, None], 0)
                probabilities.append(merged)
        return Labels(
            torch.cat(labels),
            torch.cat(scores) if return_scores else None,
            torch.cat(probabilities, dim=1) if return_probabilities else None,
            finite,
        )

    def of_probabilities(self, probabilities: Tensor) -> Tensor:
        """Labels (H, W) by probabilities (C, H, W) that are known already."""
        best, labels = probabilities.max(dim=0)
        if self.background_index is not None:
            labels[best < self.prob_thd] = self.background_index
        return labels

    def chunks(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """First and last rows of parts whose (Q, rows, W) stays below `CHUNK_BYTES`, on a GPU
        `chunk_bytes`."""
        step = at_once(4 * len(self.query_to_class) * size[1], self.device, CHUNK_BYTES)
        return [(first, min(first + step, size[0])) for first in range(0, size[0], step)]

    def _small(self, rows: Rows, chunks: Sequence[tuple[int, int]]) -> Tensor:
        """Foreground classes to remove: (C,) bool."""
        best = torch.cat([rows(*chunk).argmax(0).flatten() for chunk in chunks])
        words = best.new_zeros(len(self.query_to_class))
        words.scatter_add_(0, best, torch.ones_like(best))
        owner = owners(self.query_to_class, words.device)
        area = words.new_zeros(self.num_classes).index_add_(0, owner, words)
        foreground = torch.arange(len(area), device=area.device) != self.background_index
        return foreground & (area <= self.area_thd * (area * foreground).sum())


def compact(labels: Tensor, classes: int) -> Tensor:
    """Labels in the smallest format that holds `classes`, in which they leave a device."""
    formats = ((256, torch.uint8), (2**15, torch.int16), (2**31, torch.int32))
    return labels.to(next(dtype for most, dtype in formats if classes <= most))


def owners(query_to_class: Sequence[int], device: torch.device) -> Tensor:
    """Class of each word on a device, (Q,) int64, not to be written to."""
    return constant(tuple(query_to_class), dtype=torch.int64, device=device)


def merge_words(values: Tensor, query_to_class: Sequence[int]) -> Tensor:
    """The highest of each class's words: (Q, h, w) to (C, h, w)."""
    num_classes = max(query_to_class) + 1
    if len(values) == num_classes:
        return values
    owner = owners(query_to_class, values.device)[:, None, None]
    merged = values.new_full((num_classes, *values.shape[1:]), -inf)
    return merged.scatter_reduce_(0, owner.expand_as(values), values, 'amax')


def label_views(
    probabilities: Callable[[Tensor], Tensor],
    logits: Tensor,
    size: tuple[int, int],
    query_to_class: Sequence[int],
    *,
    cells: int,
    all_looked: bool = False,
    return_probabilities: bool = False,
) -> Labels:
    """The likeliest class of each pixel, some words at a time.

    Words that no view looked at are passed over: their probability is 0.

    Args:
        probabilities: Indices of words (N,) to (N, H_o, W_o).
        logits: (V, T, h, w), to see which words were looked at.
        size: (H_o, W_o).
        query_to_class: Class of each word.
        cells: Numbers that `probabilities` holds for a word.
        all_looked: Whether it is known that every word was looked at; a GPU waits to be asked.
        return_probabilities: Whether all classes' probabilities are kept.
    """
    looked = torch.arange(logits.shape[1], device=logits.device)
    if not all_looked:
        seen = (logits > DROPPED).logical_or_(logits.isnan())
        looked = looked[seen.flatten(2).any(2).any(0)]
    best = logits.new_full(size, -1.0)
    words = torch.zeros(size, dtype=torch.long, device=logits.device)
    everything = logits.new_zeros(logits.shape[1], *size) if return_probabilities else None
    finite = True
    for chunk in looked.split(at_once(4 * cells, logits.device, CHUNK_BYTES)):
        values = probabilities(chunk)
        if everything is not None:
            everything[chunk] = values
        value, index = values.max(dim=0)
        finite = finite & value.isfinite().all()
        better = value > best
        best = torch.where(better, value, best)
        words = torch.where(better, chunk[index], words)
    owner = owners(query_to_class, logits.device)
    if everything is not None:
        everything = merge_words(everything, query_to_class)
    return Labels(owner[words], best, everything, finite)
