"""A plain ViT as a guide: whole patches in, tokens or the last block's projections out.

Shapes: B pictures of (H, W) pixels, grid (h, w), P prefix tokens, N = P + h*w, C channels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mmseg_siglip.kept import channels
from mmseg_siglip.models.backbones.block import merge_heads, split_heads
from mmseg_siglip.models.backbones.dino import IMAGENET
from mmseg_siglip.models.backbones.position import resize_position
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.backbones.vision_trunk import VisionTrunk
from mmseg_siglip.models.guides.guide import Guide
from mmseg_siglip.models.guides.load import load_vit
from mmseg_siglip.models.sizes import pair

READS = ('tokens', 'q+k', 'q', 'k', 'v')


class ViTBlock:
    """A `Block` over a layer of transformers' ViT or MAE."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def norm(self, x: Tensor) -> Tensor:
        return self.layer.layernorm_before(x)

    def qkv(self, u: Tensor, grid: object = None) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.layer.attention
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        return tuple(split_heads(part(u), attention.num_attention_heads) for part in projections)

    def out(self, y: Tensor) -> Tensor:
        return self.layer.attention.o_proj(merge_heads(y))

    def ffn(self, x: Tensor) -> Tensor:
        return self.layer.mlp(self.layer.layernorm_after(x))


class ViTTrunk(VisionTrunk):
    """transformers' ``ViTModel`` or ``ViTMAEModel``, nothing masked.

    Args:
        model: It.
        offset: Of positions off the native grid, see `resize_position`.
        antialias: See `resize_position`.
    """

    num_prefix = 1

    def __init__(self, model: nn.Module, *, offset: float = 0.0, antialias: bool = False) -> None:
        self.model, self.offset, self.antialias = model, offset, antialias
        config = model.config
        self.image_size = pair(config.image_size, 'image_size')
        self.patch_size = pair(config.patch_size, 'patch_size')[0]

    def blocks(self) -> list[ViTBlock]:
        return [ViTBlock(layer) for layer in self.model.layers]

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        parts = self.model.embeddings
        x = parts.patch_embeddings.projection(images).flatten(2).transpose(1, 2)
        first, position = parts.position_embeddings[0].tensor_split([1])
        position = resize_position(
            position, self.native_grid, grid, offset=self.offset, antialias=self.antialias
        )
        cls = (parts.cls_token[0] + first).to(x.dtype).expand(len(x), -1, -1)
        return torch.cat([cls, x + position], dim=1)

    def norm(self, x: Tensor) -> Tensor:
        return self.model.layernorm(x)


class ViTGuide(Guide):
    """A guide over blocks.

    A picture whose sides are no multiples of a patch is enlarged to the next ones, so that features
    span the same pixels. CLS and registers are left out of what is read.

    Args:
        pretrained: See `load_vit`.
        config: See `load_vit`.
        site: What is read: ``tokens`` behind the final norm, or of the last block, by its normed
            input, ``q``, ``k``, ``v`` or the sum ``q+k``, heads side by side and not turned by
            their places.
        revision: Commit of a Hub id.

    Raises:
        ValueError: There is no such site, the checkpoint is of another kind, or it lacks weights.

    Attributes:
        layout: Further arguments of `load_vit`, those that tell this kind from others.
    """

    layout: Mapping[str, Any]

    def __init__(
        self,
        pretrained: str | None = None,
        *,
        config: Mapping | None = None,
        site: str = 'tokens',
        revision: str | None = None,
    ) -> None:
        if site not in READS:
            raise ValueError(f'unknown site {site!r} of a guide; expected one of {READS}')
        model = load_vit(pretrained, config=config, revision=revision, **self.layout)
        super().__init__(model)
        self.site = site
        self.channels = model.config.hidden_size

    @property
    @abstractmethod
    def trunk(self) -> VisionTrunk:
        """The model's blocks."""

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        trunk = Trunk(self.trunk, normalised(whole_patches(pixels, self.trunk.patch_size)))
        read = trunk.encoder.norm(trunk.output(-1)) if self.site == 'tokens' else self._last(trunk)
        return Tokens(read, trunk.grid, trunk.prefix).map

    def _last(self, trunk: Trunk) -> Tensor:
        """Projections of the last block, (B, N, C)."""
        block = trunk.blocks[-1]
        q, k, v = block.qkv(block.norm(trunk.input(-1)))
        return merge_heads({'q': q, 'k': k, 'v': v, 'q+k': q + k}[self.site])


def normalised(pixels: Tensor) -> Tensor:
    """RGB in [0, 1] (..., 3, H, W) by ImageNet's statistics."""
    mean, std = (channels(values, pixels) for values in IMAGENET)
    return (pixels - mean) / std


def whole_patches(pixels: Tensor, patch: int) -> Tensor:
    """Pictures (B, 3, H, W) enlarged, bilinearly, to the next multiples of a patch."""
    size = tuple(pixels.shape[-2:])
    wanted = tuple(-(-side // patch) * patch for side in size)
    return pixels if wanted == size else interpolate(pixels, size=wanted, mode='bilinear')
