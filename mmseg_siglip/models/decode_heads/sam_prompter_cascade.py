"""A prompter of two steps: a phrase told apart into where to look and what to outline.

The idea is RSRefSeg 2's, https://arxiv.org/abs/2507.06231; the network is a design of our own, with
12.5 M parameters against the 82.8 M of the published `RSRefSeg2Prompter`, whose weights do not fit.

Shapes: R phrases, E channels, grid (h, w), N prompts, Q queries of a phrase, L tokens of C'
channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmseg_siglip.models.decode_heads.sam_prompter import LearnedPrompter, Memory

NUM_QUERIES = 3


def pool_tokens(tokens: Tensor, real: Tensor, count: int) -> Tensor:
    """Adaptive mean pooling of each phrase's real tokens to `count`, whatever its length.

    Args:
        tokens: (R, L, C').
        real: (R, L), no padding.
        count: Q; bin k is the mean of the tokens from floor(k n / Q) to ceil((k + 1) n / Q).

    Returns:
        (R, Q, C').
    """
    place = torch.where(real, real.cumsum(1) - 1, -1)[:, None]  # (R, 1, L)
    n = real.sum(1)[:, None, None]
    k = torch.arange(count, device=tokens.device)[None, :, None]
    first, last = k * n // count, ((k + 1) * n + count - 1) // count
    weights = ((place >= first) & (place < last)).to(tokens.dtype)
    return weights @ tokens / weights.sum(-1, keepdim=True).clamp(min=1)


class CascadedPrompter(LearnedPrompter):
    """In two steps: find the place that the phrase speaks of, then its outline.

    The phrase's tokens are pooled to Q queries, twice; each copy attends to itself, to the tokens
    and to the other copy. Two losses on their means, `aspects`, keep them apart and tie the second
    to what the mask shows (`mmseg_siglip.models.losses.aspects`). The cells of the image attend to
    the first copy. Then, layer by layer, they attend to the second, and the prompts to it and to
    them.
    """

    def __init__(self, channels: int, **options) -> None:
        super().__init__(channels, **options)
        self.place, self.thing = self.stage(2), self.stage(2)
        self.locate, self.attend, self.outline = self.stage(1), self.stage(1), self.stage(2)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))

    def exchange(
        self, prompts: Tensor, cells: Tensor, place: Tensor, words: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        aspects = self.tell_apart(words, real)
        where, what = map(Memory, aspects)
        for layer in self.locate:
            cells = layer(cells, place, [where])
        for attend, outline in zip(self.attend, self.outline, strict=True):
            cells = attend(cells, place, [what])
            prompts = outline(prompts, None, [what, Memory(cells, place=place)])
        return prompts, cells, torch.stack([part.mean(1) for part in aspects], dim=1)

    def tell_apart(self, words: Tensor, real: Tensor) -> list[Tensor]:
        """The two copies of a phrase's queries, (R, Q, E) each, out of its tokens (R, L, E)."""
        place = thing = pool_tokens(words, real, NUM_QUERIES)
        memory = Memory(words, padding=~real)
        for own, other in zip(self.place, self.thing, strict=True):
            place, thing = (
                own(place, None, [memory, Memory(thing)]),
                other(thing, None, [memory, Memory(place)]),
            )
        return [norm(part) for norm, part in zip(self.norms, (place, thing), strict=True)]
