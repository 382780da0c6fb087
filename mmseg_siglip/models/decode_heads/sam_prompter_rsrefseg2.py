"""RSRefSeg 2's prompter as it was published: a phrase told apart, first where, then what.

https://arxiv.org/abs/2507.06231. Queries and cells keep the towers' width; only inside an
attention or an MLP is it 512. Norms come after the sums. `CascadedPrompter` is this package's own,
in SAM's width.

Shapes: R phrases, C channels of the towers, E of prompts, grid (h, w), M = h*w cells, N prompts, Q
queries of a phrase, L tokens, masks (H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from mmseg_siglip.models.decode_heads.enlarged_cosine import enlarged_cosine
from mmseg_siglip.models.decode_heads.sam_prompter import Grid, Memory
from mmseg_siglip.models.decode_heads.sam_prompter_cascade import NUM_QUERIES, pool_tokens
from mmseg_siglip.models.decode_heads.text_visual_activation import TextFeatures

INNER, HEADS = 512, 8


class InnerAttention(nn.Module):
    """Attention in a width of its own, from `channels` and back; keys of another width."""

    def __init__(self, channels: int, memory_channels: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(channels, INNER)
        self.k_proj, self.v_proj = (nn.Linear(memory_channels, INNER) for _ in range(2))
        self.out_proj = nn.Linear(INNER, channels)

    def forward(self, query: Tensor, memory: Memory) -> Tensor:
        parts = self.q_proj(query), self.k_proj(memory.keys), self.v_proj(memory.values)
        q, k, v = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in parts)
        mask = None if memory.padding is None else ~memory.padding[:, None, None]
        found = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(found.transpose(1, 2).flatten(2))


def inner_mlp(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, INNER), nn.GELU(), nn.Linear(INNER, channels))


class Read(nn.Module):
    """Add what a memory says, and normalise; then, if wanted, what an MLP says, and normalise."""

    def __init__(self, channels: int, memory_channels: int, *, mlp: bool) -> None:
        super().__init__()
        self.attention = InnerAttention(channels, memory_channels)
        self.norm = nn.LayerNorm(channels)
        self.mlp = inner_mlp(channels) if mlp else None
        self.mlp_norm = nn.LayerNorm(channels) if mlp else None

    def forward(self, x: Tensor, place: Tensor, memory: Memory) -> Tensor:
        x = self.norm(x + self.attention(x + place, memory))
        return x if self.mlp is None else self.mlp_norm(x + self.mlp(x))


class TellApart(nn.Module):
    """Two copies of a phrase's queries, each read by itself, by the words, and by the other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.own = nn.ModuleList(Read(channels, channels, mlp=False) for _ in range(2))
        self.words = nn.ModuleList(Read(channels, channels, mlp=True) for _ in range(2))
        self.other = nn.ModuleList(Read(channels, channels, mlp=True) for _ in range(2))

    def forward(
        self, queries: tuple[Tensor, Tensor], places: tuple[Tensor, Tensor], words: Memory
    ) -> tuple[Tensor, Tensor]:
        """(R, Q, C) each; the second reads the first as it has become."""
        (one, two), (here, there) = queries, places
        one = self.own[0](one, here, Memory(one, place=here))
        two = self.own[1](two, there, Memory(two, place=there))
        one, two = self.words[0](one, here, words), self.words[1](two, there, words)
        one = self.other[0](one, here, Memory(two, place=there))
        two = self.other[1](two, there, Memory(one, place=here))
        return one, two


class CellsRead(nn.Module):
    """The queries read themselves, then the cells read the queries, and not one another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.own = Read(channels, channels, mlp=False)
        self.cells = Read(channels, channels, mlp=True)

    def forward(
        self, queries: Tensor, place: Tensor, cells: Tensor, cell_place: Tensor
    ) -> tuple[Tensor, Tensor]:
        queries = self.own(queries, place, Memory(queries, place=place))
        return queries, self.cells(cells, cell_place, Memory(queries, place=place))


class Outline(nn.Module):
    """The prompts read themselves, the queries and the cells."""

    def __init__(self, prompt_channels: int, channels: int) -> None:
        super().__init__()
        self.own = Read(prompt_channels, prompt_channels, mlp=False)
        self.queries = Read(prompt_channels, channels, mlp=True)
        self.cells = Read(prompt_channels, channels, mlp=True)

    def forward(self, prompts: Tensor, place: Tensor, queries: Memory, cells: Memory) -> Tensor:
        prompts = self.own(prompts, place, Memory(prompts, place=place))
        prompts = self.queries(prompts, place, queries)
        return self.cells(prompts, place, cells)


class RSRefSeg2Prompter(nn.Module):
    """Nine prompts and a mask for each phrase: 82.8 million weights where C is 1152, E is 256 and
    the grid 32 x 32.

    Args:
        channels: C, of patches, tokens and pooled phrases alike.
        prompt_channels: E.
        grid: The grid that learned positions of cells are of; they are resized for others.
        num_prompts: N.
        num_layers: Of each of the three stages.
    """

    def __init__(
        self,
        channels: int,
        prompt_channels: int,
        *,
        grid: Grid,
        num_prompts: int,
        num_layers: int,
    ) -> None:
        super().__init__()
        self.query_places = nn.ParameterList(torch.randn(NUM_QUERIES, channels) for _ in range(2))
        self.cell_place = nn.Parameter(torch.randn(1, channels, *grid))
        self.prompts = nn.Parameter(torch.randn(num_prompts, prompt_channels))
        self.prompt_place = nn.Parameter(torch.randn(num_prompts, prompt_channels))
        self.apart = nn.ModuleList(TellApart(channels) for _ in range(num_layers))
        self.locate = nn.ModuleList(CellsRead(channels) for _ in range(num_layers))
        self.look = nn.ModuleList(CellsRead(channels) for _ in range(num_layers))
        self.outline = nn.ModuleList(Outline(prompt_channels, channels) for _ in range(num_layers))
        self.project = inner_mlp(prompt_channels)
        half = channels // 2
        self.refine = nn.Sequential(
            nn.Conv2d(channels, half, 3, padding=1),
            nn.BatchNorm2d(half),
            nn.GELU(),
            nn.Conv2d(half, channels, 3, padding=1),
        )

    def forward(
        self,
        patches: Tensor,
        text: TextFeatures,
        mask_size: tuple[int, int],
        *,
        scale: float | Tensor,
        bias: float | Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Prompts, masks and the means of the two copies.

        Args:
            patches: (R, C, h, w), of each phrase's image.
            text: Of the R phrases.
            mask_size: (H, W).
            scale: The encoder's logit scale.
            bias: The encoder's logit bias.

        Returns:
            (R, N, E); logits (R, 1, H, W) over the grid, its outer cells' centres on the edges;
            and (R, 2, C).
        """
        grid = tuple(patches.shape[-2:])
        cells, cell_place = patches.flatten(2).transpose(1, 2), self._cell_place(grid)
        one, two = queries = self.tell_apart(text)
        here, there = self.query_places
        for look in self.locate:
            one, cells = look(one, here, cells, cell_place)
        prompts = self.prompts.expand(len(patches), -1, -1)
        for look, outline in zip(self.look, self.outline, strict=True):
            two, cells = look(two, there, cells, cell_place)
            prompts = outline(
                prompts,
                self.prompt_place,
                Memory(two, place=there),
                Memory(cells, place=cell_place),
            )
        aspects = torch.stack([part.mean(1) for part in queries], dim=1)
        refined = self.refine(cells.transpose(1, 2).unflatten(2, grid))
        logits = scale * enlarged_cosine(refined, text.pooled, mask_size) + bias
        return self.project(prompts), logits, aspects

    def tell_apart(self, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """The two copies of each phrase's queries, (R, Q, C)."""
        pooled = pool_tokens(text.tokens, text.real, NUM_QUERIES)
        queries, words = (pooled, pooled), Memory(text.tokens, padding=~text.real)
        for layer in self.apart:
            queries = layer(queries, tuple(self.query_places), words)
        return queries

    def _cell_place(self, grid: Grid) -> Tensor:
        """(1, M, C)."""
        place = self.cell_place
        if tuple(place.shape[-2:]) != grid:
            place = interpolate(place, size=grid, mode='bicubic', align_corners=True)
        return place.flatten(2).transpose(1, 2)
