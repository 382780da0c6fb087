"""DINOv3, https://arxiv.org/abs/2508.10104.

Shapes: B pictures, grid (h, w), P = 1 + registers prefix tokens (CLS first), C channels.
"""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor, nn

from mmseg_siglip.models.adapters.dinov3 import dinov3_config, to_transformers_dinov3
from mmseg_siglip.models.backbones.dinov3 import DINOv3Block, PatchAngles
from mmseg_siglip.models.backbones.vision_trunk import VisionTrunk
from mmseg_siglip.models.guides.vit import ViTGuide
from mmseg_siglip.registry import GUIDES


class DINOv3Trunk(VisionTrunk):
    """transformers' ``DINOv3ViTModel``, whose places are rotations."""

    rotary = True

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        config = model.config
        self.image_size, self.patch_size = (config.image_size,) * 2, config.patch_size
        self.num_prefix = 1 + config.num_register_tokens

    def blocks(self) -> list[DINOv3Block]:
        angles = PatchAngles(self.model.rope_embeddings.inv_freq)
        return [DINOv3Block(layer, angles) for layer in self.model.model.layer]

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
            file by transformers' names, or by the release's own
            (``dinov3_vitb16_pretrain_lvd1689m-73cec8be.pth``), which were not tried on a released
            file. timm's layout is not read.
        options: See `ViTGuide`.
    """

    layout = MappingProxyType(
        dict(
            model_types=('dinov3_vit',),
            published=dinov3_config,
            rename=lambda state, _: to_transformers_dinov3(state),
        )
    )

    @property
    def trunk(self) -> DINOv3Trunk:
        return DINOv3Trunk(self.model)
