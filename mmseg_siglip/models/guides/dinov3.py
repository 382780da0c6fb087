"""DINOv3, https://arxiv.org/abs/2508.10104.

Shapes: B pictures, H heads, grid (h, w), P = 1 + registers prefix tokens (CLS first), N = P + h*w,
d per head, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import pi

import torch
from torch import Tensor, nn

from mmseg_siglip.models.backbones.block import merge_heads, split_heads
from mmseg_siglip.models.backbones.vision_trunk import VisionTrunk
from mmseg_siglip.models.guides.load import load_vit
from mmseg_siglip.models.guides.vit import ViTGuide
from mmseg_siglip.registry import GUIDES


class DINOv3Block:
    """A `Block` over a layer of transformers' DINOv3; without a grid its `qkv` turns nothing."""

    def __init__(self, layer: nn.Module, frequencies: Tensor) -> None:
        self.layer, self.frequencies = layer, frequencies

    def norm(self, x: Tensor) -> Tensor:
        return self.layer.norm1(x)

    def qkv(self, u: Tensor, grid: tuple[int, int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.layer.attention
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        q, k, v = (split_heads(part(u), attention.num_heads) for part in projections)
        if grid is not None:
            angles = patch_angles(grid, self.frequencies)
            q, k = (turned(x, angles).type_as(v) for x in (q, k))
        return q, k, v

    def out(self, y: Tensor) -> Tensor:
        return self.layer.layer_scale1(self.layer.attention.o_proj(merge_heads(y)))

    def ffn(self, x: Tensor) -> Tensor:
        return self.layer.layer_scale2(self.layer.mlp(self.layer.norm2(x)))


def patch_angles(grid: tuple[int, int], frequencies: Tensor) -> Tensor:
    """Angles in radians by which the patches of a grid are turned: centres in [-1, 1] of each side,
    times 2 pi, times the frequencies (d/4,). (h*w, d), rows' and columns' angles given twice."""
    centres = [(torch.arange(n, device=frequencies.device) + 0.5) / n * 2 - 1 for n in grid]
    y, x = torch.meshgrid(*centres, indexing='ij')
    places = torch.stack([y, x], dim=-1).flatten(0, 1)
    return (2 * pi * places[:, :, None] * frequencies).flatten(1).tile(2)


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """Queries or keys (B, H, N, d), the prefix as it is, patches turned in pairs (i, i + d/2)."""
    prefix, patches = x.tensor_split([x.shape[2] - len(angles)], dim=2)
    first, second = patches.float().chunk(2, dim=-1)
    across = torch.cat([-second, first], dim=-1)
    return torch.cat([prefix.float(), patches * angles.cos() + across * angles.sin()], dim=2)


class DINOv3Trunk(VisionTrunk):
    """transformers' ``DINOv3ViTModel``, whose places are rotations."""

    rotary = True

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        config = model.config
        self.image_size, self.patch_size = (config.image_size,) * 2, config.patch_size
        self.num_prefix = 1 + config.num_register_tokens

    def blocks(self) -> list[DINOv3Block]:
        frequencies = self.model.rope_embeddings.inv_freq.float()
        return [DINOv3Block(layer, frequencies) for layer in self.model.model.layer]

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        parts = self.model.embeddings
        x = parts.patch_embeddings(images).flatten(2).transpose(1, 2)
        prefix = torch.cat([parts.cls_token, parts.register_tokens], dim=1).to(x.dtype)
        return torch.cat([prefix.expand(len(x), -1, -1), x], dim=1)

    def norm(self, x: Tensor) -> Tensor:
        return self.model.norm(x)


@GUIDES.register_module()
class DINOv3Guide(ViTGuide):
    """DINOv3's ViTs, as transformers has them; CLS and registers are left out of what is read.

    Args:
        pretrained: ``facebook/dinov3-vitb16-pretrain-lvd1689m`` or its like, a folder or a weight
            file by transformers' names. The release's and timm's own layouts are not read.
        config: See `load_vit`.
        site: See `ViTGuide`.
        revision: Commit of a Hub id.

    Raises:
        ValueError: The checkpoint is of another kind, or lacks weights.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        *,
        config: Mapping | None = None,
        site: str = 'tokens',
        revision: str | None = None,
    ) -> None:
        model = load_vit(
            pretrained,
            config=config,
            model_types=('dinov3_vit',),
            revision=revision,
        )
        super().__init__(model, site)

    @property
    def trunk(self) -> DINOv3Trunk:
        return DINOv3Trunk(self.model)
