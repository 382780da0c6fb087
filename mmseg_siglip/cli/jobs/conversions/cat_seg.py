"""A published CAT-Seg checkpoint (Detectron2) as a saved system, or as one for configs/cat_seg.

Published at https://github.com/cvlab-kaist/CAT-Seg: ``model_base.pth`` (CLIP ViT-B/16) and
``model_large.pth`` (ViT-L/14@336px).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.registry import init_default_scope

from mmseg_siglip.api import OpenVocabSegmenter
from mmseg_siglip.api.load import read_config
from mmseg_siglip.api.model_card import CardFacts
from mmseg_siglip.io.files import write_atomically
from mmseg_siglip.models.adapters.cat_seg import from_detectron2
from mmseg_siglip.models.segmentors.published_cat_seg import SHORT_SIDE, describe_cat_seg
from mmseg_siglip.registry import MODELS, SCOPE
from mmseg_siglip.weights.checkpoint import load_checkpoint_file
from mmseg_siglip.weights.foreign import as_data
from mmseg_siglip.weights.state import load_strict

CLIPS = {768: 'ViT-B-16-quickgelu', 1024: 'ViT-L-14-336-quickgelu'}


def convert(checkpoint: str | Path, out: str | Path, config: str | Path | None = None) -> str:
    """Write the converted checkpoint.

    Args:
        checkpoint: As published.
        out: A file where it ends in ``.pth``, else a folder.
        config: What a file shall fit.

    Raises:
        ValueError: The checkpoint is of another kind, or does not fit the config.
    """
    state = load_checkpoint_file(checkpoint)
    if isinstance(state.get('model'), Mapping):
        state = state['model']
    state = {
        name: torch.as_tensor(value) for name, value in state.items() if not isinstance(value, str)
    }
    converted = from_detectron2(state)
    if config is not None:
        cfg = read_config(config)
        init_default_scope(cfg.get('default_scope', SCOPE))
        cfg.model.finetune = 'none'  # weights are named as in the encoder
        cfg.model.backbone.pretrained = None
        width = converted['backbone.model.visual.class_embedding'].numel()
        cfg.model.backbone.setdefault('arch', CLIPS.get(width))
        load_strict(MODELS.build(cfg.model), converted, checkpoint)
    if Path(out).suffix != '.pth':
        save_system(converted, checkpoint, out)
        return f'{len(converted)} tensors in {out}'
    buffer = io.BytesIO()
    torch.save(dict(state_dict=converted, meta=dict(source=Path(checkpoint).name)), buffer)
    write_atomically(buffer.getvalue(), out)
    return f'{len(converted)} tensors in {out}'


def save_system(
    state: Mapping[str, torch.Tensor], checkpoint: str | Path, folder: str | Path
) -> None:
    """Write a converted checkpoint as a folder that is all that a segmenter needs.

    Raises:
        ValueError: It does not fit the published model.
    """
    description = describe_cat_seg(state, checkpoint)
    with as_data(checkpoint, 'expected the weights of a CAT-Seg'):
        init_default_scope(SCOPE)
        model = MODELS.build(description)
    load_strict(model, state, checkpoint)
    segmenter = OpenVocabSegmenter(model, short_side=SHORT_SIDE)
    segmenter.description = description
    segmenter.save_pretrained(folder, facts=CardFacts(data=['COCO-Stuff']))
