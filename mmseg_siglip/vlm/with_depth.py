"""What LLaVA models of any kind have beyond transformers' for depth beside the image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from mmseg_siglip.patch_stats import PatchStatisticsFusion

BESIDE_IMAGE = ('depth_statistics', 'pixel_attention_mask', 'spatial_shapes')


class WithDepth:
    """Beside a LLaVA of transformers', whose name is `stock`: the fusion, and how it is saved.

    The fusion belongs to ``model``, the part without the head.
    """

    stock: str

    @property
    def depth_fusion(self) -> PatchStatisticsFusion | None:
        return self.model.depth_fusion

    def add_depth_fusion(self, options: Mapping) -> None:
        """Let depth in, without effect before training.

        Args:
            options: ``names`` of the statistics and their ``space`` (see `patch_statistics`),
                ``mean`` and ``std`` over the training set, ``width`` of a hidden layer.
        """
        fusion = PatchStatisticsFusion.from_options(options, self.config.text_config.hidden_size)
        self.model.depth_fusion = fusion.to(self.device, self.dtype)
        self.config.depth_fusion = {
            'space': 'depth',
            **{k: list(v) if isinstance(v, (list, tuple)) else v for k, v in options.items()},
        }

    def save_pretrained(self, save_directory: str | Path, **options) -> None:
        """As transformers', with the name of transformers' class in ``config.json``."""
        super().save_pretrained(save_directory, **options)
        self.config.architectures = [self.stock]
        self.config.save_pretrained(save_directory)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, PatchStatisticsFusion):
            nn.init.zeros_(module.last.weight)
            nn.init.zeros_(module.last.bias)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, inputs_embeds: Tensor | None = None, **kwargs
    ) -> dict:
        """What is beside the image goes where it goes: into the first step."""
        inputs = super().prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, **kwargs
        )
        if inputs.get('pixel_values') is None:
            for name in BESIDE_IMAGE:
                inputs.pop(name, None)
        return inputs
