"""Images to the hidden states of a transformers vision model, up to the layer wanted.

Layers are numbered as in transformers' ``hidden_states``: 0 is the embedding, i the output of block
i, negatives count from the last block's output, which is -1. No final norm is applied.

Shapes: B images of (H, W) pixels, patch side p, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle
from transformers import AttentionInterface, PretrainedConfig

from mmseg_siglip.models.backbones.block import attend

SIGLIP_TYPES = ('siglip_vision_model', 'siglip2_vision_model')
CLIP_TYPES = ('clip_vision_model',)
ATTENTION = 'mmseg_siglip'  # in transformers' terms


def attention_forward(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **_
) -> tuple[Tensor, None]:
    """`attend` as a transformers attention: (B, H, N, d) to (B, N, H, d).

    Scaled by 1 / √d, as in all vision models here; none of them drops attention in prediction.
    """
    return attend(query, key, value, mask).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, attention_forward)


def native_size(config: PretrainedConfig) -> tuple[int, int]:
    """(H, W) in pixels that a vision model was trained on."""
    if config.model_type == 'siglip2_vision_model':
        side = int(config.num_patches**0.5) * config.patch_size
    else:
        side = config.image_size
    return side, side


def token_grid(config: PretrainedConfig, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches of an image of `size` (H, W).

    Raises:
        ValueError: A side is neither a multiple of the patch nor the model's own (384 pixels in
            patches of 14 give 27): transformers would drop what is left over.
    """
    patch = config.patch_size
    for side, trained in zip(size, native_size(config), strict=True):
        if side < patch or (side % patch and side != trained):
            raise ValueError(
                f'image size: expected multiples of the patch of {patch} pixels, or {trained}, '
                f'found {size[0]}x{size[1]} (height x width)'
            )
    return size[0] // patch, size[1] // patch


def num_prefix(config: PretrainedConfig) -> int:
    """Tokens before the patches: CLIP's CLS; SigLIP has none."""
    return int(config.model_type in CLIP_TYPES)


def blocks_needed(layer: int, num_blocks: int) -> int:
    """How many blocks give hidden state `layer`.

    Raises:
        ValueError: There is no such hidden state.
    """
    if not -num_blocks - 1 <= layer <= num_blocks:
        raise ValueError(
            f'select_layer: expected {-num_blocks - 1} to {num_blocks}, found {layer}; the '
            f'encoder has {num_blocks} blocks'
        )
    return layer % (num_blocks + 1)


def hidden_states(vision: nn.Module, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
    """What ``vision(images, output_hidden_states=True)`` has at `layers`, at any image size.

    Position embeddings are resampled as transformers does; blocks above the highest layer are not
    computed, nor are the final norm and the pooling head.

    Args:
        vision: A SigLIP, SigLIP 2 or CLIP vision model of transformers.
        images: (B, 3, H, W), normalised.
        layers: Blocks done, 0 or more; see `blocks_needed`.

    Returns:
        One (B, N, C) per layer.
    """
    vision = getattr(vision, 'vision_model', vision)
    x = embed(vision, images)
    found = {0: x}
    for i, block in enumerate(vision.encoder.layers[: max(layers)], start=1):
        x = block(x, None)
        if i in layers:
            found[i] = x
    return [found[layer] for layer in layers]


def embed(vision: nn.Module, images: Tensor) -> Tensor:
    """(B, 3, H, W) to tokens (B, N, C), positions added."""
    config = vision.config
    grid = token_grid(config, tuple(images.shape[-2:]))
    if config.model_type == 'siglip2_vision_model':
        # (B, 3*p*p, h, w), channels before pixels; the model expects pixels before channels.
        p = config.patch_size
        patches = pixel_unshuffle(images, p).unflatten(1, (3, p * p)).permute(0, 3, 4, 2, 1)
        shapes = torch.tensor([grid] * len(images), device=images.device)
        return vision.embeddings(patches.flatten(3).flatten(1, 2), shapes)
    x = vision.embeddings(images, interpolate_pos_encoding=True)
    return vision.pre_layrnorm(x) if config.model_type in CLIP_TYPES else x
