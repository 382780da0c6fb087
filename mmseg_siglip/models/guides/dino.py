"""DINO, https://arxiv.org/abs/2104.14294."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from mmseg_siglip.models.adapters.timm_vit import vit_config
from mmseg_siglip.models.guides.vit import ViTGuide, ViTTrunk
from mmseg_siglip.registry import GUIDES

POSITION_OFFSET = 0.1


@GUIDES.register_module()
class DINOGuide(ViTGuide):
    """DINO's ViT with its own rule for positions, which neither transformers nor timm follow off
    the native grid (https://github.com/facebookresearch/dino/issues/8), and its own epsilon, 1e-6.

    Args:
        pretrained: ``facebook/dino-vitb8`` (-vitb16, -vits8, -vits16) or whatever else `load_vit`
            takes, such as ``vit_base_patch8_224.dino`` or the release's file.
        position_offset: See `resize_position`; 0 samples to a size, as transformers does.
        options: See `ViTGuide`.
    """

    layout = MappingProxyType(
        dict(model_types=('vit',), published=vit_config, fields=dict(layer_norm_eps=1e-6))
    )

    def __init__(
        self,
        pretrained: str | None = None,
        *,
        position_offset: float = POSITION_OFFSET,
        **options: Any,
    ) -> None:
        super().__init__(pretrained, **options)
        self.position_offset = position_offset

    @property
    def trunk(self) -> ViTTrunk:
        return ViTTrunk(self.model, offset=self.position_offset)
