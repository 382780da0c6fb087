"""How many windows pass through an encoder at once."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mmseg_siglip.device import device_memory
from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.vision_trunk import patch_grid

USUAL = 16
MOST = 256
SHARE = 8
"""A batch of windows may take one part in so many of a GPU's memory: its words, full-size maps and
a second model want the rest."""
WIDTHS = 24
"""Numbers a token has at once, in units of the trunk's width: residuals, queries, keys and values,
and the hidden layer of an MLP four times as wide, before and behind its activation."""
MAPS = 3
"""Maps of all pairs of tokens a head has at once, where a method forms them."""


def window_batch(config: Mapping, encoder: VisionLanguageBackbone, *, alone: bool = True) -> int:
    """``window_batch`` of a `test_cfg`, or where that is None what the device is good for.

    On a CPU it is 16. On a GPU it is as many windows as an eighth of the memory holds in float32,
    from 16 to 256: 24 numbers of the trunk's width a token, and 3 a head for each pair of tokens.

    Args:
        config: With ``window_batch``, ``mode`` and ``crop_size``.
        encoder: Through which windows pass.
        alone: Whether nothing but the encoder sees a batch; else, as for whole images, whose size
            is not known here, it is 16.
    """
    if config['window_batch'] is not None:
        return config['window_batch']
    memory = device_memory(next(encoder.parameters()).device)
    if memory is None or not alone or config['mode'] == 'whole':
        return USUAL
    return min(max(memory // SHARE // window_bytes(encoder, config['crop_size']), USUAL), MOST)


def window_bytes(encoder: VisionLanguageBackbone, size: tuple[int, int]) -> int:
    """Bytes that a window of `size` (H, W) holds at once on its way through an encoder."""
    patch = encoder.patch_size
    side = tuple(max(length, patch) for length in size)
    rows, columns = patch_grid(side, patch, encoder.image_size)
    tokens, bytes_each = rows * columns + encoder.num_prefix, torch.float32.itemsize
    heads = max(encoder.hidden_size // 64, 1)
    return bytes_each * tokens * (WIDTHS * encoder.hidden_size + MAPS * heads * tokens)
