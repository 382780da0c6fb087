"""MAE, https://arxiv.org/abs/2111.06377."""

from __future__ import annotations

from types import MappingProxyType

from mmseg_siglip.models.adapters.timm_vit import vit_config
from mmseg_siglip.models.guides.vit import ViTGuide, ViTTrunk
from mmseg_siglip.registry import GUIDES


@GUIDES.register_module()
class MAEGuide(ViTGuide):
    """The encoder of a masked autoencoder, which sees all patches. Positions are resampled as timm
    does when it builds a model of another size.

    Args:
        pretrained: ``vit_base_patch16_224.mae``, ``facebook/vit-mae-base``, the release's file, or
            whatever else `load_vit` takes.
        config: See `load_vit`; ``model_type`` is ``vit`` or ``vit_mae``.
        options: See `ViTGuide`.
    """

    layout = MappingProxyType(
        dict(
            model_types=('vit', 'vit_mae'),
            published=vit_config,
            fields=dict(layer_norm_eps=1e-6),
            unread=('decoder', 'mask_token'),
        )
    )

    @property
    def trunk(self) -> ViTTrunk:
        return ViTTrunk(self.model, antialias=True)
