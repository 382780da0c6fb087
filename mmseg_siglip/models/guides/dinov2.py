"""DINOv2, https://arxiv.org/abs/2304.07193, and with registers, https://arxiv.org/abs/2309.16588.

Shapes: B pictures, grid (h, w), P = 1 + registers prefix tokens (CLS first), C channels.
"""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor, nn

from mmseg_siglip.models.adapters.timm_vit import dinov2_config
from mmseg_siglip.models.backbones.dino import DinoBlock
from mmseg_siglip.models.guides.dino import POSITION_OFFSET
from mmseg_siglip.models.guides.vit import ViTGuide, ViTTrunk
from mmseg_siglip.registry import GUIDES


class DINOv2Trunk(ViTTrunk):
    """transformers' ``Dinov2Model`` or ``Dinov2WithRegistersModel``.

    Positions off the native grid follow the releases: DINO's rule without registers, an antialiased
    sampling to a size with them.
    """

    def __init__(self, model: nn.Module) -> None:
        self.registers = getattr(model.embeddings, 'register_tokens', None)
        with_registers = self.registers is not None
        offset = 0.0 if with_registers else POSITION_OFFSET
        super().__init__(model, offset=offset, antialias=with_registers)
        self.num_prefix = 1 + (self.registers.shape[1] if with_registers else 0)

    def blocks(self) -> list[DinoBlock]:
        # TIPS v2's layers have the same parts by the same names.
        return [DinoBlock(layer) for layer in self.model.encoder.layer]

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        x = super().embed(images, grid)
        if self.registers is None:
            return x
        registers = self.registers.to(x.dtype).expand(len(x), -1, -1)
        return torch.cat([x[:, :1], registers, x[:, 1:]], dim=1)


@GUIDES.register_module()
class DINOv2Guide(ViTGuide):
    """DINOv2; CLS and registers are left out of what is read.

    Args:
        pretrained: ``facebook/dinov2-with-registers-base`` (-small, -large, -giant),
            ``facebook/dinov2-base``, the releases' files, timm's names, or whatever else `load_vit`
            takes.
        config: See `load_vit`; ``model_type`` is ``dinov2_with_registers`` or ``dinov2``.
        options: See `ViTGuide`.
    """

    layout = MappingProxyType(
        dict(model_types=('dinov2_with_registers', 'dinov2'), published=dinov2_config)
    )

    @property
    def trunk(self) -> DINOv2Trunk:
        return DINOv2Trunk(self.model)
