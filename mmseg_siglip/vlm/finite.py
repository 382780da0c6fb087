"""Answers that go by what is no number are refused, not decoded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor


class RefuseNaN(LogitsProcessor):
    """Looks at the scores (B, V) of each next token; the likeliest of NaN would be any word.

    Args:
        names: What to call each of the B images.

    Raises:
        ValueError: A score is NaN, when it is called.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        bad = scores.isnan().any(1)
        if bad.any():
            raise ValueError(
                f'{self.names[int(torch.nonzero(bad)[0])]}: expected finite scores of words, '
                'found NaN; are the weights damaged, or too large for their number format?'
            )
        return scores
