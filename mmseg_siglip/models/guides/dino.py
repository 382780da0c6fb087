"""DINO, https://arxiv.org/abs/2104.14294."""

from __future__ import annotations

from collections.abc import Mapping

from mmseg_siglip.models.adapters.timm_vit import vit_config
from mmseg_siglip.models.guides.load import load_vit
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
        config: See `load_vit`.
        site: See `ViTGuide`.
        position_offset: See `resize_position`; 0 samples to a size, as transformers does.
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
        position_offset: float = POSITION_OFFSET,
        revision: str | None = None,
    ) -> None:
        model = load_vit(
            pretrained,
            config=config,
            model_types=('vit',),
            published=vit_config,
            revision=revision,
            fields=dict(layer_norm_eps=1e-6),
        )
        super().__init__(model, site)
        self.position_offset = position_offset

    @property
    def trunk(self) -> ViTTrunk:
        return ViTTrunk(self.model, offset=self.position_offset)
