"""NaFlex encoders under LLaVA: each image in its own aspect, with as many tokens as it has patches.

Transformers' LLaVA has no such towers; folders saved with one load here alone.

Shapes: B images, N patches of the largest, patch side p, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LlavaProcessor,
    PretrainedConfig,
    PreTrainedModel,
    Siglip2ImageProcessor,
)
from transformers.image_processing_utils import BaseImageProcessor

NAFLEX = 'siglip2_vision_model'


def is_naflex(config: PretrainedConfig) -> bool:
    """Whether a vision configuration is of an encoder that takes patches."""
    return config.model_type == NAFLEX


def look_of(processor: BaseImageProcessor) -> dict[str, Any]:
    """How a processor resamples and normalises, for another that does the same."""
    return {name: getattr(processor, name) for name in ('resample', 'image_mean', 'image_std')}


class NaFlexLlavaProcessor(LlavaProcessor):
    """Transformers', with a placeholder for each patch of each image."""

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs) -> str:
        rows, columns = (int(side) for side in image_inputs['spatial_shapes'][image_idx])
        return self.image_token * (rows * columns)


def patch_processor(
    processor: BaseImageProcessor, config: PretrainedConfig, size: tuple[int, int]
) -> Siglip2ImageProcessor:
    """One that makes patches of images, with the statistics of the checkpoint's own.

    Raises:
        ValueError: See `set_patches`.
    """
    found = Siglip2ImageProcessor(patch_size=config.patch_size, **look_of(processor))
    set_patches(found, config, size)
    return found


def set_patches(
    processor: BaseImageProcessor, config: PretrainedConfig, size: tuple[int, int]
) -> None:
    """Give images at most as many patches as one of (H, W) has.

    Raises:
        ValueError: There is none in it.
    """
    most = (size[0] // config.patch_size) * (size[1] // config.patch_size)
    if not most:
        raise ValueError(
            f'image size: expected at least the patch of {config.patch_size} pixels, found '
            f'{size[0]}x{size[1]} (height x width)'
        )
    processor.max_num_patches = most


def patch_states(
    vision: PreTrainedModel,
    patches: Tensor,
    mask: Tensor,
    shapes: Tensor,
    layers: Sequence[int],
) -> list[Tensor]:
    """Hidden states of the patches that images have, channels of several layers side by side.

    Args:
        vision: Transformers' NaFlex model.
        patches: (B, N, 3*p*p).
        mask: (B, N), 1 for a patch, 0 behind the last.
        shapes: (B, 2), rows and columns of each image.
        layers: Blocks done, 0 or more.

    Returns:
        B of (h*w, C * layers).
    """
    states = vision(
        pixel_values=patches,
        pixel_attention_mask=mask,
        spatial_shapes=shapes,
        output_hidden_states=True,
    ).hidden_states
    tokens = torch.cat([states[layer] for layer in layers], -1)
    return [
        row[: rows * columns] for row, (rows, columns) in zip(tokens, shapes.tolist(), strict=True)
    ]
