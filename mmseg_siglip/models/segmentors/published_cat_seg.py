"""CAT-Seg's published models as folders that need nothing else: weights and what they are.

Words are cut by open_clip's own tokenizer, whose table comes with that package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from mmseg_siglip.io.files import whole_file, write_atomically
from mmseg_siglip.models.backbones.clip_checkpoint import openai_config
from mmseg_siglip.models.segmentors.cat_seg import CATSegSegmentor
from mmseg_siglip.weights.foreign import as_data
from mmseg_siglip.weights.json_file import read_object
from mmseg_siglip.weights.source import CONFIG_NAME
from mmseg_siglip.weights.state import load_strict, read_tensors

KIND = 'cat_seg'
WEIGHTS_NAME = 'model.safetensors'
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


def is_cat_seg_folder(source: str | Path) -> bool:
    """Whether `write_cat_seg` wrote it."""
    config = Path(source) / CONFIG_NAME
    return config.is_file() and read_object(config).get('model_type') == KIND


def write_cat_seg(state: Mapping[str, Tensor], folder: str | Path) -> None:
    """Write converted weights as a folder.

    Args:
        state: Of `from_detectron2`.
        folder: Its place.

    Raises:
        ValueError: They do not fit the published model.
    """
    build_cat_seg(state, folder)
    folder = Path(folder)
    with whole_file(folder / WEIGHTS_NAME) as draft:
        save_file({name: value.contiguous() for name, value in state.items()}, draft)
    write_atomically(json.dumps(dict(model_type=KIND)), folder / CONFIG_NAME)


def read_cat_seg(folder: str | Path) -> CATSegSegmentor:
    """The model of a folder of `write_cat_seg`, its settings those of the published evaluation.

    Raises:
        ValueError: Weights are missing, or too many.
    """
    path = Path(folder) / WEIGHTS_NAME
    return build_cat_seg(read_tensors(path), path)


def build_cat_seg(state: Mapping[str, Tensor], source: str | Path) -> CATSegSegmentor:
    """The published model with these weights.

    Args:
        state: Of `from_detectron2`; widths and depths are read from its shapes.
        source: What messages call it.

    Raises:
        ValueError: They do not fit.
    """
    clip = {name.removeprefix(CLIP): v for name, v in state.items() if name.startswith(CLIP)}
    with as_data(source, 'expected the weights of a CAT-Seg'):
        arch = openai_config(clip)
        side = GRID * arch['vision_cfg']['patch_size']
        model = CATSegSegmentor(
            dict(type='CLIPBackbone', arch=arch, position_offset=0.0),
            dict(type='CATSegHead'),
            'coco_stuff_catseg',
            encoder_size=(side, side),
            finetune='none',
            test_cfg=VIEWS,
        )
    load_strict(model, state, source)
    return model.eval()
