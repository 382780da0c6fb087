"""CAT-Seg's cost volume and its aggregation over space and classes.

CAT-Seg, https://arxiv.org/abs/2303.11797.

Shapes: B images, T classes, K <= T kept ones, P prompts a class, D joint channels, grid (h, w),
C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmseg_siglip.models.decode_heads.cat_seg_class_attention import ClassAggregation, to_tokens
from mmseg_siglip.models.decode_heads.cat_seg_swin import SpatialAggregation


def cost_volume(features: Tensor, text: Tensor) -> Tensor:
    """Cosines of every place with every prompt, neither scaled nor shifted.

    Args:
        features: (B, D, h, w).
        text: (T, P, D), or (B, T, P, D) where each image has classes of its own.

    Returns:
        (B, T, P, h, w) in [-1, 1].
    """
    features, text = normalize(features, dim=1), normalize(text, dim=-1)
    owner = 'btpd' if text.ndim == 4 else 'tpd'
    return torch.einsum(f'bdhw,{owner}->btphw', features, text)


def likeliest(cost: Tensor, count: int) -> Tensor:
    """The `count` classes of each image whose best cosine anywhere in it is highest: (B, K).

    They come in ascending order, so that an image's result does not depend on how ties fall.
    """
    best = cost.amax(dim=(2, 3, 4))
    return best.topk(count, dim=1).indices.sort(dim=1).values


class AggregatorLayer(nn.Module):
    """Spatial, then class aggregation."""

    def __init__(
        self,
        channels: int,
        *,
        guidance_channels: int,
        text_channels: int,
        num_heads: int,
        window: int,
        pad_len: int,
    ) -> None:
        super().__init__()
        self.spatial = SpatialAggregation(
            channels, guidance_channels, num_heads=num_heads, window=window
        )
        self.classes = ClassAggregation(
            channels, text_channels, num_heads=num_heads, pad_len=pad_len
        )

    def forward(
        self, x: Tensor, guidance: Tensor, text: Tensor, *, pooling: int, with_cp: bool = False
    ) -> Tensor:
        """(B, K, h, w, C) to the same."""
        x = self.spatial(x, guidance, with_cp=with_cp)
        return self.classes(x, text, pooling=pooling, with_cp=with_cp)


class Aggregator(nn.Module):
    """From image and text features to one map of C channels for each class.

    Args:
        embed_dim: D.
        num_prompts: P.
        channels: C.
        num_layers: Layers.
        num_heads: Heads of every attention.
        window: Side of the spatial windows.
        guidance_channels: Width that the image features are projected to.
        text_channels: Width that the text features are projected to.
        pad_len: Number that class attention pads the classes to, and at most keeps; 0 for neither.
        with_cp: Recompute parts in the backward pass.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        num_prompts: int = 1,
        channels: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        window: int = 12,
        guidance_channels: int = 128,
        text_channels: int = 128,
        pad_len: int = 256,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.num_prompts, self.pad_len, self.with_cp = num_prompts, pad_len, with_cp
        self.embedding = nn.Conv2d(num_prompts, channels, 7, padding=3)
        self.guidance_projection = nn.Sequential(
            nn.Conv2d(embed_dim, guidance_channels, 3, padding=1), nn.ReLU()
        )
        self.text_projection = nn.Sequential(nn.Linear(embed_dim, text_channels), nn.ReLU())
        self.layers = nn.ModuleList(
            AggregatorLayer(
                channels,
                guidance_channels=guidance_channels,
                text_channels=text_channels,
                num_heads=num_heads,
                window=window,
                pad_len=pad_len,
            )
            for _ in range(num_layers)
        )

    def count_kept(self, classes: int, max_classes: int | None = None) -> int:
        """How many of so many classes are kept for an image."""
        return min([classes, *(limit for limit in (self.pad_len, max_classes) if limit)])

    def forward(
        self, features: Tensor, text: Tensor, *, pooling: int, max_classes: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Aggregate.

        Args:
            features: (B, D, h, w).
            text: (T, P, D).
            pooling: Side of the cells in which class attention works.
            max_classes: At most so many classes are kept for an image; `pad_len` if not given.

        Returns:
            Maps (B, K, h, w, C), and the kept classes (B, K) int64, ascending; None if all are.
        """
        cost, kept = cost_volume(features, text), None
        count = self.count_kept(len(text), max_classes)
        if count < len(text):
            kept = likeliest(cost, count)
            cost = cost[torch.arange(len(cost), device=cost.device)[:, None], kept]
        # Each class of each image is a picture of P channels.
        x = to_tokens(self.embedding(cost.flatten(0, 1)), len(features))
        guidance = self.guidance_projection(features).permute(0, 2, 3, 1)
        words = normalize(normalize(text, dim=-1).mean(dim=1), dim=-1)
        words = self.text_projection(words)
        words = words.expand(len(features), -1, -1) if kept is None else words[kept]
        for layer in self.layers:
            x = layer(x, guidance, words, pooling=pooling, with_cp=self.with_cp)
        return x, kept
