"""Images to the hidden states of a transformers vision model, up to the layer wanted.

Layers are numbered as in transformers' ``hidden_states``: 0 is the embedding, i the output of block
i, negatives count from the last block's output, which is -1. No final norm is applied.

Shapes: B images of (H, W) pixels, patch side p, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from mmseg_siglip.models.backbones.image_size import resolve_image_size
from mmseg_siglip.models.backbones.transformers_trunk import TransformersTrunk

SIGLIP_TYPES = ('siglip_vision_model', 'siglip2_vision_model')
CLIP_TYPES = ('clip_vision_model',)


def token_grid(config: PretrainedConfig, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches of an image of `size` (H, W).

    Raises:
        ValueError: A side is neither a multiple of the patch nor the model's own (384 pixels in
            patches of 14 give 27): transformers would drop what is left over.
    """
    patch = config.patch_size
    for side, trained in zip(size, resolve_image_size(None, config), strict=True):
        if side < patch or (side % patch and side != trained):
            raise ValueError(
                f'image size: expected multiples of the patch of {patch} pixels, or {trained}, '
                f'found {size[0]}x{size[1]} (height x width)'
            )
    return size[0] // patch, size[1] // patch


def check_floats(images: Tensor) -> None:
    """Refuse pixels that nobody normalised.

    Raises:
        ValueError: They are no floats.
    """
    if not images.is_floating_point():
        raise ValueError(
            f'images: expected floats, normalised by the image processor, found {images.dtype}'
        )


def num_prefix(config: PretrainedConfig) -> int:
    """Tokens before the patches: CLIP's CLS; SigLIP has none."""
    return int(config.model_type in CLIP_TYPES)


def blocks_needed(layer: int, num_blocks: int) -> int:
    """How many blocks give hidden state `layer`.

    Raises:
        ValueError: There is no such hidden state, or it is no number.
    """
    if not isinstance(layer, int):
        raise ValueError(f'select_layer: expected a whole number, found {layer!r}')
    if not -num_blocks - 1 <= layer <= num_blocks:
        raise ValueError(
            f'select_layer: expected {-num_blocks - 1} to {num_blocks}, found {layer}; the '
            f'encoder has {num_blocks} blocks'
        )
    return layer % (num_blocks + 1)


def hidden_states(vision: PreTrainedModel, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
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
    trunk = TransformersTrunk(vision)
    token_grid(trunk.vision.config, tuple(images.shape[-2:]))
    blocks = [layer - 1 for layer in layers if layer]
    _, taps = trunk.forward_intermediates(images, blocks, prefix=True, stop_early=True)
    found = dict(zip(blocks, taps, strict=True))
    return [found[layer - 1] if layer else trunk.tokens(images).x for layer in layers]
