"""CAT-Seg's published models as a configuration, told by the shapes of their weights.

Words are cut by open_clip's own tokenizer, whose table comes with that package.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmseg_siglip.models.backbones.clip_checkpoint import openai_config
from mmseg_siglip.weights.foreign import as_data

CLIP = 'backbone.model.'
GRID = 24
"""Patches on a side of what the encoder sees, of both published models."""
SHORT_SIDE = 640
VIEWS = dict(
    mode='slide_global',
    image_size=(SHORT_SIDE, SHORT_SIDE),
    crop_size=(384, 384),
    stride=(256, 256),
    window_batch=5,
)


def describe_cat_seg(state: Mapping[str, Tensor], source: str | Path) -> dict[str, Any]:
    """The configuration of a published model, its settings those of the published evaluation.

    Args:
        state: Of `from_detectron2`; widths and depths are read from its shapes.
        source: What messages call it.

    Raises:
        ValueError: They are no CAT-Seg's.
    """
    clip = {name.removeprefix(CLIP): v for name, v in state.items() if name.startswith(CLIP)}
    with as_data(source, 'expected the weights of a CAT-Seg'):
        arch = openai_config(clip)
        side = GRID * arch['vision_cfg']['patch_size']
    return dict(
        type='CATSegSegmentor',
        backbone=dict(type='CLIPBackbone', arch=arch, position_offset=0.0),
        decode_head=dict(type='CATSegHead'),
        vocabulary='coco_stuff_catseg',
        encoder_size=(side, side),
        finetune='none',
        test_cfg=VIEWS,
    )
