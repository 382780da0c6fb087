"""RSRefSeg 2's prompter: a phrase told apart into where to look and what to outline.

https://arxiv.org/abs/2507.06231.

Shapes: R phrases, E channels, grid (h, w), N prompts, Q queries of a phrase, L tokens of C'
channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmseg_siglip.models.decode_heads.sam_prompter import NUM_PROMPTS, Layer, Memory, Prompted

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


class CascadedPrompter(nn.Module):
    """Learned prompts in two steps: find the place that the phrase speaks of, then its outline.

    The phrase's tokens are pooled to Q queries, twice; each copy attends to itself, to the tokens
    and to the other copy. Two losses on their means, `aspects`, keep them apart and tie the second
    to what the mask shows (`mmseg_siglip.models.losses.aspects`). The cells of the image attend to
    the first copy. Then, layer by layer, they attend to the second, and the prompts to it and to
    them.

    Args:
        channels: E.
        text_channels: C'.
        num_prompts: N.
        num_layers: Of each of the three stages.
        num_heads: Of every attention.
    """

    def __init__(
        self,
        channels: int,
        *,
        text_channels: int,
        num_prompts: int = NUM_PROMPTS,
        num_layers: int = 2,
        num_heads: int = 8,
    ) -> None:
        super().__init__()

        def stage(memories: int) -> nn.ModuleList:
            return nn.ModuleList(
                Layer(channels, num_heads, memories=memories) for _ in range(num_layers)
            )

        self.prompts = nn.Parameter(torch.randn(num_prompts, channels))
        self.read = nn.Linear(text_channels, channels)
        self.place, self.thing = stage(2), stage(2)
        self.locate, self.attend, self.outline = stage(1), stage(1), stage(2)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Sequential(
            nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, channels)
        )

    def forward(self, x: Tensor, position: Tensor, tokens: Tensor, real: Tensor) -> Prompted:
        """Prompts, the map refined by the phrase, and the means of both copies; as `QueryPrompter`.

        Args:
            x: (R, E, h, w).
            position: (1 or R, E, h, w), SAM's code.
            tokens: (R, L, C').
            real: (R, L), no padding.
        """
        grid = x.shape[-2:]
        cells, places = (part.flatten(2).transpose(1, 2) for part in (x, position))
        aspects = self.tell_apart(self.read(tokens), real)
        place, thing = map(Memory, aspects)
        for layer in self.locate:
            cells = layer(cells, places, [place])
        prompts = self.prompts.expand(len(x), -1, -1)
        for attend, outline in zip(self.attend, self.outline, strict=True):
            cells = attend(cells, places, [thing])
            prompts = outline(prompts, None, [thing, Memory(cells, place=places)])
        return Prompted(
            self.project(self.norm(prompts)),
            cells.transpose(1, 2).unflatten(2, grid),
            torch.stack([part.mean(1) for part in aspects], dim=1),
        )

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
