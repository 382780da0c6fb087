"""A transformers vision model alone (SigLIP, SigLIP 2, CLIP) as a trunk: no text, no joint space.

Shapes: B images, grid (h, w), P prefix tokens, N = P + h*w, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmseg_siglip.models.backbones.base import VisionTrunk
from mmseg_siglip.models.backbones.block import attend_plainly
from mmseg_siglip.models.backbones.image_size import resolve_image_size
from mmseg_siglip.models.backbones.siglip import SigLIPBlock, embed_patches


class TransformersTrunk(VisionTrunk):
    """The model stays the owner of its weights, and of how it wants to be run: an ``eager`` one
    attends plainly, one with gradient checkpointing recomputes its blocks.

    Args:
        vision: ``SiglipVisionModel``, ``Siglip2VisionModel`` or ``CLIPVisionModel``. All that it
            drops in training is left in, as in the other encoders.
    """

    def __init__(self, vision: nn.Module) -> None:
        self.vision = getattr(vision, 'vision_model', vision)
        config, layers = self.vision.config, self.vision.encoder.layers
        self.image_size, self.patch_size = resolve_image_size(None, config), config.patch_size
        self.num_prefix = int(hasattr(self.vision.embeddings, 'class_embedding'))
        self.with_cp = any(layer.gradient_checkpointing and layer.training for layer in layers)
        if config._attn_implementation == 'eager':
            self.attend = attend_plainly

    def blocks(self) -> list[SigLIPBlock]:
        # CLIP's layers have the same parts by the same names.
        return [SigLIPBlock(layer) for layer in self.vision.encoder.layers]

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.num_prefix:
            x = self.vision.embeddings(images, interpolate_pos_encoding=True)
            return self.vision.pre_layrnorm(x)
        return embed_patches(self.vision, images, grid, self.native_grid)

    def norm(self, x: Tensor) -> Tensor:
        return self.vision.post_layernorm(x)

    @property
    def dtype(self) -> torch.dtype:
        """Of the sums between blocks, which that of the matrices need not be."""
        return self.vision.embeddings.position_embedding.weight.dtype

    def above(self, blocks: int) -> list[nn.Module]:
        """The parts of the model that come after the first `blocks` blocks."""
        head = [self.vision.head] if getattr(self.vision, 'use_head', False) else []
        return [*self.vision.encoder.layers[blocks:], self.vision.post_layernorm, *head]
