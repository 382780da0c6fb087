"""The trained head of CAT-Seg: image and text features to a logit for each class and place.

CAT-Seg, https://arxiv.org/abs/2303.11797; layer sizes and constants of its CVPR 2024 code,
https://github.com/cvlab-kaist/CAT-Seg.

Shapes: B images, T classes, P prompts a class, D joint channels, N trunk channels, grid (h, w).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmseg_siglip.models.decode_heads.cat_seg_aggregator import Aggregator
from mmseg_siglip.models.decode_heads.cat_seg_class_attention import to_maps
from mmseg_siglip.models.decode_heads.cat_seg_decoder import Decoder
from mmseg_siglip.models.labelling import DROPPED
from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class CATSegHead(BaseModule):
    """Cost aggregation, then a decoder to four times the grid.

    Works for any number of classes and any grid. Defaults are those published.

    Args:
        in_channels: N, channels of the two taps that guide the decoder.
        embed_dim: D.
        num_prompts: P.
        channels: Width of the maps.
        num_layers: Aggregation layers.
        num_heads: Heads of every attention.
        window: Side of the spatial windows.
        pooling: Side of the cells in which class attention works, in training.
        test_pooling: The same in evaluation. CAT-Seg trains with 2 and tests with 1; equal values
            make training and testing the same function.
        guidance_channels: Width that the image features are projected to.
        text_channels: Width that the text features are projected to.
        pad_len: Number that class attention pads the classes to, and at most keeps; 0 for neither.
        decoder: Whether there is a decoder. Without it, logits come at the grid, and the taps are
            not used.
        decoder_widths: Channels after each step of the decoder.
        guidance_widths: Channels of the taps once they are upsampled.
        guidance_proj_widths: Channels that those are projected to.
        loss_decode: Configuration of the loss.
        with_cp: Recompute parts in the backward pass instead of storing what is in between.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        embed_dim: int,
        num_prompts: int = 1,
        channels: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        window: int = 12,
        pooling: int = 2,
        test_pooling: int = 1,
        guidance_channels: int = 128,
        text_channels: int = 128,
        pad_len: int = 256,
        decoder: bool = True,
        decoder_widths: Sequence[int] = (64, 32),
        guidance_widths: Sequence[int] = (256, 128),
        guidance_proj_widths: Sequence[int] = (32, 16),
        loss_decode: Mapping | None = None,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        for name, value in dict(pooling=pooling, test_pooling=test_pooling, window=window).items():
            if value < 1:
                raise ValueError(f'CATSegHead: expected {name} of 1 or more, found {value}')
        if channels % num_heads:
            raise ValueError(
                f'CATSegHead: expected channels divisible by num_heads, '
                f'found {channels} and {num_heads}'
            )
        widths = (channels, *decoder_widths[:-1])
        if decoder and any(g >= w for g, w in zip(guidance_proj_widths, widths, strict=True)):
            raise ValueError(
                f"CATSegHead: expected guidance_proj_widths below the maps' {widths}, "
                f'found {tuple(guidance_proj_widths)}'
            )
        self.pooling, self.test_pooling, self.with_cp = pooling, test_pooling, with_cp
        self.aggregator = Aggregator(
            embed_dim,
            num_prompts=num_prompts,
            channels=channels,
            num_layers=num_layers,
            num_heads=num_heads,
            window=window,
            guidance_channels=guidance_channels,
            text_channels=text_channels,
            pad_len=pad_len,
            with_cp=with_cp,
        )
        self.decoder = None
        if decoder:
            self.upsample1 = nn.ConvTranspose2d(in_channels, guidance_widths[0], 2, stride=2)
            self.upsample2 = nn.ConvTranspose2d(in_channels, guidance_widths[1], 4, stride=4)
            self.decoder = Decoder(
                channels,
                widths=tuple(decoder_widths),
                guidance_widths=tuple(guidance_widths),
                guidance_proj_widths=tuple(guidance_proj_widths),
            )
        else:
            self.out = nn.Conv2d(channels, 1, 3, padding=1)
        self.loss_decode = MODELS.build(loss_decode or dict(type='DenseBCELoss'))

    @property
    def num_prompts(self) -> int:
        return self.aggregator.num_prompts

    @property
    def scale(self) -> int:
        """Sides of the logits over sides of the grid."""
        return Decoder.scale if self.decoder is not None else 1

    def forward(
        self,
        features: Tensor,
        taps: Sequence[Tensor],
        text: Tensor,
        *,
        max_classes: int | None = None,
    ) -> Tensor:
        """Logits.

        Args:
            features: (B, D, h, w), dense features in the joint space.
            taps: Two (B, N, h, w) from the encoder's trunk, the earlier block first.
            text: (T, P, D).
            max_classes: At most so many classes are looked at in an image.

        Returns:
            (B, T, s*h, s*w) with s from `scale`; `DROPPED` where a class was not looked at.

        Raises:
            ValueError: The number of prompts is not the one that the head was made for.
        """
        if text.shape[1] != self.num_prompts:
            raise ValueError(
                f'CATSegHead: expected {self.num_prompts} prompts a class (num_prompts), '
                f'found {text.shape[1]}'
            )
        pooling = self.pooling if self.training else self.test_pooling
        maps, kept = self.aggregator(features, text, pooling=pooling, max_classes=max_classes)
        if self.decoder is None:
            logits = self.out(to_maps(maps))[:, 0].unflatten(0, maps.shape[:2])
        else:
            guidance = self.upsample1(taps[0]), self.upsample2(taps[1])
            logits = self.decoder(maps, guidance, with_cp=self.with_cp)
        if kept is None:
            return logits
        full = logits.new_full((len(logits), len(text), *logits.shape[2:]), DROPPED)
        return full.scatter(1, kept[..., None, None].expand_as(logits), logits)

    def loss(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses by name.

        Args:
            logits: From `forward`.
            labels: (B, H, W) int64, resized to by bilinear interpolation of the logits.
        """
        logits = nn.functional.interpolate(
            logits.float(), size=labels.shape[-2:], mode='bilinear', align_corners=False
        )
        with torch.no_grad():
            counted = labels != self.loss_decode.ignore_index
            hits = (logits.argmax(1) == labels) & counted
            accuracy = 100 * hits.sum() / counted.sum().clamp(min=1)
        return dict(loss_sem_seg=self.loss_decode(logits, labels), acc_seg=accuracy)
