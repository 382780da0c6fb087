"""A vision tower as one that was made for another image size, for who cannot resample positions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from mmseg_siglip.models.backbones.image_size import resolve_image_size
from mmseg_siglip.models.backbones.position import resize_position
from mmseg_siglip.vlm.vision import num_prefix, token_grid


@contextmanager
def made_for(model: PreTrainedModel, size: tuple[int, int]) -> Iterator[None]:
    """While it lasts, the tower's own size is `size`, and its positions are those that it is run
    with at that size. Stock transformers' LLaVA runs its tower at no other than its own.

    Its towers are square: for another shape nothing is changed, with a warning.

    Args:
        model: A LLaVA model.
        size: (height, width) in pixels.
    """
    config = model.config.vision_config
    native = resolve_image_size(None, config)
    if size == native:
        yield
        return
    if size[0] != size[1]:
        warnings.warn(
            f'saved with positions of {native[0]}x{native[1]} pixels: stock transformers cannot '
            f'run the model at {size[0]}x{size[1]} (height x width), which is no square',
            stacklevel=3,
        )
        yield
        return
    tower = model.model.vision_tower
    embeddings = getattr(tower, 'vision_model', tower).embeddings
    trained, side = embeddings.position_embedding, config.image_size
    weight, prefix = trained.weight.detach(), num_prefix(config)
    grids = token_grid(config, native), token_grid(config, size)
    resized = torch.cat([weight[:prefix], resize_position(weight[prefix:], *grids)])
    try:
        embeddings.position_embedding = nn.Embedding(*resized.shape, _weight=resized)
        config.image_size = size[0]
        yield
    finally:
        embeddings.position_embedding = trained
        config.image_size = side
