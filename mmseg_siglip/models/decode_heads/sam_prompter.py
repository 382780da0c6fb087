"""From a map about a phrase to prompt tokens of SAM.

Shapes: R phrases, E channels, grid (h, w), N prompts, L tokens of C' channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import gcd
from typing import NamedTuple

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

Grid = tuple[int, int]
MODES = ('conv', 'pool', 'query', 'cascade', 'rsrefseg2')
ADAPTIVE_SIDE = 7
NUM_PROMPTS = 9


def conv_side(side: int, steps: int) -> int:
    """What a side becomes under `steps` convolutions of kernel 3, stride 2 and padding 1."""
    for _ in range(steps):
        side = (side - 1) // 2 + 1
    return side


def steps_to(side: int, target: int) -> int:
    """Convolutions of stride 2 until a side is at most `target`."""
    return next(steps for steps in range(side + 1) if conv_side(side, steps) <= target)


def adaptive_grid(grid: Grid, side: int = ADAPTIVE_SIDE) -> Grid:
    """At most `side` along the longer side of a grid, and in proportion along the shorter."""
    scale = min(1.0, side / max(grid))
    return tuple(max(1, round(n * scale)) for n in grid)


def default_norm(channels: int) -> dict:
    """Group norm, which unlike batch norm does not care how many images a GPU holds."""
    return dict(type='GN', num_groups=gcd(32, channels))


class Prompted(NamedTuple):
    """What a prompter makes of R phrases.

    Attributes:
        sparse: Prompts (R, N, E).
        cells: The map (R, E, h, w), refined by the phrase if the prompter does that.
        aspects: (R, 2, E), means of the two parts that a prompter tells apart in a phrase.
    """

    sparse: Tensor
    cells: Tensor
    aspects: Tensor | None = None


class ConvPrompter(nn.Module):
    """RSRefSeg's: halve the grid some times; each remaining cell is a prompt.

    A 27 x 27 grid gives 14, then 7: 49 prompts. Their number follows the resolution.
    """

    def __init__(self, channels: int, *, steps: int, norm_cfg: Mapping | None = None) -> None:
        super().__init__()
        norm = dict(norm_cfg or default_norm(channels))
        options = dict(norm_cfg=norm, act_cfg=dict(type='GELU'))
        self.down = nn.Sequential(
            *(
                ConvModule(channels, channels, 3, stride=2, padding=1, **options)
                for _ in range(steps)
            ),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor, position: Tensor, tokens: Tensor, real: Tensor) -> Prompted:
        """Prompts (R, N, E), and `x` as it was; see `LearnedPrompter`."""
        return Prompted(self.down(x + position).flatten(2).transpose(1, 2), x)


class PoolPrompter(nn.Module):
    """Cells of a coarser grid, of any size: ``target`` (rows, columns), or `adaptive_grid`."""

    learnt_with = ('target',)

    def __init__(self, channels: int, *, target: Grid | None) -> None:
        super().__init__()
        self.target = target
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, position: Tensor, tokens: Tensor, real: Tensor) -> Prompted:
        """Prompts (R, N, E), and `x` as it was; see `LearnedPrompter`."""
        target = self.target or adaptive_grid(tuple(x.shape[-2:]))
        pooled = adaptive_avg_pool2d(x + position, target)
        return Prompted(self.project(pooled).flatten(2).transpose(1, 2), x)


class LearnedPrompter(nn.Module, ABC):
    """Learned prompts that read the phrase and the image, as many for every resolution.

    Args:
        channels: E.
        text_channels: C'.
        num_prompts: N.
        num_layers: Of each stage.
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
        self.num_layers, self.sizes = num_layers, (channels, num_heads)
        self.prompts = nn.Parameter(torch.randn(num_prompts, channels))
        self.read = nn.Linear(text_channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Sequential(
            nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, channels)
        )

    def stage(self, memories: int) -> nn.ModuleList:
        """Layers that attend to so many memories."""
        return nn.ModuleList(Layer(*self.sizes, memories=memories) for _ in range(self.num_layers))

    def forward(self, x: Tensor, position: Tensor, tokens: Tensor, real: Tensor) -> Prompted:
        """Prompts, and the map refined by the phrase.

        Args:
            x: (R, E, h, w).
            position: (1 or R, E, h, w), SAM's code.
            tokens: (R, L, C').
            real: (R, L), no padding.
        """
        cells, place = (part.flatten(2).transpose(1, 2) for part in (x, position))
        prompts = self.prompts.expand(len(x), -1, -1)
        prompts, cells, aspects = self.exchange(prompts, cells, place, self.read(tokens), real)
        refined = cells.transpose(1, 2).unflatten(2, x.shape[-2:])
        return Prompted(self.project(self.norm(prompts)), refined, aspects)

    @abstractmethod
    def exchange(
        self, prompts: Tensor, cells: Tensor, place: Tensor, words: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Prompts and cells after they attended to one another and to the words; and aspects.

        Args:
            prompts: (R, N, E).
            cells: (R, h*w, E).
            place: (1 or R, h*w, E).
            words: (R, L, E).
            real: (R, L), no padding.
        """


class QueryPrompter(LearnedPrompter):
    """The image's cells attend to the words, then the prompts to the words and to the cells.

    A design of our own, after ideas of RSRefSeg 2, https://arxiv.org/abs/2507.06231.
    """

    def __init__(self, channels: int, **options) -> None:
        super().__init__(channels, **options)
        self.cells, self.layers = self.stage(1), self.stage(2)

    def exchange(
        self, prompts: Tensor, cells: Tensor, place: Tensor, words: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor, None]:
        phrase = Memory(words, padding=~real)
        for layer in self.cells:
            cells = layer(cells, place, [phrase])
        for layer in self.layers:
            prompts = layer(prompts, None, [phrase, Memory(cells, place=place)])
        return prompts, cells, None


class Memory:
    """What a layer attends to: values (R, M, E), their places, and which are padding."""

    def __init__(
        self, values: Tensor, *, place: Tensor | None = None, padding: Tensor | None = None
    ) -> None:
        self.values, self.padding = values, padding
        self.keys = values if place is None else values + place


class Layer(nn.Module):
    """Attention to itself, then to each memory in turn, then an MLP; all with norms before."""

    def __init__(self, channels: int, num_heads: int, *, memories: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(
            nn.MultiheadAttention(channels, num_heads, batch_first=True)
            for _ in range(1 + memories)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2 + memories))
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: Tensor, place: Tensor | None, memories: list[Memory]) -> Tensor:
        """(R, M, E) to the same; `place` is added to queries, and to its own keys."""

        def placed(x: Tensor) -> Tensor:
            return x if place is None else x + place

        own, *others = self.attentions
        y = self.norms[0](x)
        x = x + own(placed(y), placed(y), y, need_weights=False)[0]
        for attention, norm, memory in zip(others, self.norms[1:-1], memories, strict=True):
            query = placed(norm(x))
            x = (
                x
                + attention(
                    query,
                    memory.keys,
                    memory.values,
                    key_padding_mask=memory.padding,
                    need_weights=False,
                )[0]
            )
        return x + self.mlp(self.norms[-1](x))
