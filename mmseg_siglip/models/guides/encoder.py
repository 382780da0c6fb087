"""An encoder as its own guide, or as another's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmseg_siglip.models.backbones.build import build_encoder
from mmseg_siglip.models.backbones.trunk import block_positions
from mmseg_siglip.models.guides.guide import Guide
from mmseg_siglip.models.guides.vit import whole_patches
from mmseg_siglip.registry import GUIDES


@GUIDES.register_module()
class EncoderGuide(Guide):
    """What a block of a vision-language encoder gives for each patch, behind the trunk's final
    norm.

    Args:
        pretrained: See `build_encoder`.
        block: From 0, or, negative, from the end.
        options: Arguments of the encoder.

    Raises:
        ValueError: No encoder is there, or it has no such block.
    """

    def __init__(self, pretrained: str, *, block: int = -1, **options: Any) -> None:
        encoder = build_encoder(pretrained, **options)
        (position,) = block_positions([block], encoder.num_layers, 'EncoderGuide: block')
        encoder.keep_vision(pooling=False)
        super().__init__(encoder)
        self.block, self.channels = position, encoder.hidden_size

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        images = self.model.from_pixels(whole_patches(pixels, self.model.patch_size))
        return self.model.forward_intermediates(images, [self.block], norm=True, stop_early=True)[
            1
        ][0]
