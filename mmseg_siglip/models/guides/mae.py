"""MAE, https://arxiv.org/abs/2111.06377."""

from __future__ import annotations

from collections.abc import Mapping

from mmseg_siglip.models.adapters.timm_vit import vit_config
from mmseg_siglip.models.guides.load import load_vit
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
            model_types=('vit', 'vit_mae'),
            published=vit_config,
            revision=revision,
            fields=dict(layer_norm_eps=1e-6),
            unread=('decoder', 'mask_token'),
        )
        super().__init__(model, site)

    @property
    def trunk(self) -> ViTTrunk:
        return ViTTrunk(self.model, antialias=True)
