"""Transformers' LLaVA-NeXT and LLaVA-OneVision with depth beside each tile.

Shapes: T tiles of all images, the small whole picture of each before its tiles; N tokens of a tile,
K depth statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import transformers
from torch import Tensor
from transformers import PretrainedConfig
from transformers.utils import ModelOutput

from mmseg_siglip.patch_stats import PatchStatisticsFusion
from mmseg_siglip.vlm.with_depth import WithDepth


class _Tiled(WithDepth):
    """In front of a class of transformers', which does all else."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        options = getattr(config, 'depth_fusion', None)
        width = config.text_config.hidden_size
        self.model.depth_fusion = (
            PatchStatisticsFusion.from_options(options, width) if options else None
        )

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        depth_statistics: Tensor | None = None,
        **kwargs,
    ) -> ModelOutput:
        """As transformers', whose ``generate`` looks for ``logits_to_keep`` among the names.

        Args:
            depth_statistics: (T, N, K), see `mmseg_siglip.vlm.fusion`.

        Raises:
            ValueError: They do not suit the model or the tiles.
        """
        if pixel_values is None and depth_statistics is not None:
            raise ValueError('depth_statistics: expected pixel_values beside them, found none')
        with self._fusing(depth_statistics):
            return super().forward(
                input_ids=input_ids,
                pixel_values=pixel_values,
                image_sizes=image_sizes,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                logits_to_keep=logits_to_keep,
                **kwargs,
            )

    @contextmanager
    def _fusing(self, statistics: Tensor | None) -> Iterator[None]:
        """Add what depth says to the tokens of each tile, before those of the margins go."""
        if statistics is None:
            yield
            return
        if self.depth_fusion is None:
            raise ValueError(
                'depth_statistics: this model has no depth fusion; see add_depth_fusion'
            )
        hook = self.model.multi_modal_projector.register_forward_hook(
            lambda _, inputs, tokens: self.depth_fusion(tokens, statistics)
        )
        try:
            yield
        finally:
            hook.remove()


class DepthLlavaNext(_Tiled, transformers.LlavaNextForConditionalGeneration):
    """LLaVA-NeXT."""

    stock = transformers.LlavaNextForConditionalGeneration.__name__


class DepthLlavaOnevision(_Tiled, transformers.LlavaOnevisionForConditionalGeneration):
    """LLaVA-OneVision; images of a prompt that has several are not tiled, and take no depth."""

    stock = transformers.LlavaOnevisionForConditionalGeneration.__name__

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        batch_num_images: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        depth_statistics: Tensor | None = None,
        **kwargs,
    ) -> ModelOutput:
        """See LLaVA-NeXT; the names are those that ``generate`` looks for."""
        return super().forward(
            input_ids=input_ids,
            pixel_values=pixel_values,
            image_sizes=image_sizes,
            pixel_values_videos=pixel_values_videos,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            batch_num_images=batch_num_images,
            logits_to_keep=logits_to_keep,
            depth_statistics=depth_statistics,
            **kwargs,
        )
