"""SAM, SAM 2 and segment-anything checkpoints to transformers models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, Sam2Config

from mmseg_siglip.models.adapters.segment_anything import (
    MARK,
    POSITION,
    TIED_POSITION,
    sam_config,
    to_transformers,
)
from mmseg_siglip.weights.source import bundled
from mmseg_siglip.weights.state import load_strict, read_state_dict, refuse_missing_path
from mmseg_siglip.weights.transformers_model import first_line, load_model

KINDS = ('auto', 'sam', 'sam2', 'segment_anything')
MODEL_TYPES = ('sam', 'sam2')
INITIALIZER_RANGE = 0.02


def load_sam(
    checkpoint: str | None,
    *,
    kind: str,
    config: Mapping | None,
    revision: str | None,
    attention: str,
) -> tuple[nn.Module, str]:
    """A transformers SamModel or Sam2Model in float32, and which of `KINDS` it came from.

    Raises:
        ValueError: Nothing of that kind is there, or weights do not fit.
    """
    if kind not in KINDS:
        raise ValueError(f'unknown kind {kind!r} of SAM; expected one of {", ".join(KINDS)}')
    checkpoint = bundled(checkpoint)
    if checkpoint is None:
        if config is None:
            raise ValueError('SAMAdapter: expected checkpoint or config, found neither')
        settings = _from_mapping(config)
        model, found = _random(settings, attention), settings.model_type
    elif Path(checkpoint).is_file():
        model, found = _from_file(checkpoint, config, attention)
    else:
        if config is not None:
            raise ValueError(f'{checkpoint}: brings its own configuration; drop config')
        refuse_missing_path(checkpoint)
        settings = _from_source(checkpoint)
        model = load_model(checkpoint, settings, revision=revision, attention=attention)
        found = settings.model_type
    if kind not in ('auto', found):
        raise ValueError(
            f'{checkpoint or "config"}: expected a model of kind {kind}, found {found}'
        )
    return model, found


def _random(config: PretrainedConfig, attention: str) -> nn.Module:
    model = AutoModel.from_config(config, dtype=torch.float32, attn_implementation=attention)
    code, own = model.shared_image_embedding, model.prompt_encoder.shared_embedding
    with torch.no_grad():
        # SAM draws its position code from N(0, 1); transformers, from a width-dependent spread
        # that would make neighbouring positions unrelated. Points share the image's code.
        code.positional_embedding.normal_()
        own.positional_embedding.copy_(code.positional_embedding)
    return model


def _from_file(path: str, config: Mapping | None, attention: str) -> tuple[nn.Module, str]:
    state = read_state_dict(path)
    if MARK in state:
        if config is not None:
            raise ValueError(f'{path}: its tensors tell the configuration; drop config')
        try:
            settings = sam_config(state)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error
        state, found = to_transformers(state), 'segment_anything'
    elif any(name.startswith('vision_encoder.') for name in state):
        settings = _from_mapping(config) if config else _from_source(str(Path(path).parent))
        found = settings.model_type
        if POSITION in state:  # a file holds tied tensors once
            state.setdefault(TIED_POSITION, state[POSITION])
    else:
        raise ValueError(
            f'{path}: expected weights of SAM in the names of segment-anything ({MARK}) or of '
            f'transformers (vision_encoder.*), found {next(iter(state))}'
        )
    model = _random(settings, attention)
    load_strict(model, state, path)
    return model, found


def _from_mapping(config: Mapping) -> PretrainedConfig:
    fields = dict(config)
    kind = fields.pop('model_type', 'sam')
    if kind not in MODEL_TYPES:
        raise ValueError(f'expected model_type {" or ".join(MODEL_TYPES)}, found {kind!r}')
    if kind == 'sam':
        # transformers draws the encoder's weights from N(0, 1e-10), which never learns.
        fields['vision_config'] = dict(
            dict(initializer_range=INITIALIZER_RANGE), **fields.get('vision_config') or {}
        )
    return AutoConfig.for_model(kind, **fields)


def _from_source(source: str) -> PretrainedConfig:
    try:
        fields, _ = PretrainedConfig.get_config_dict(source)
    except (OSError, ValueError) as error:
        raise ValueError(f'{source}: no SAM configuration ({first_line(error)})') from error
    kind = fields.get('model_type')
    if kind == 'sam2_video':  # SAM 2 is published as a video model; its image part is a Sam2Model
        parts = {name: fields[name] for name in Sam2Config.sub_configs if name in fields}
        return Sam2Config(**parts)
    if kind not in MODEL_TYPES:
        raise ValueError(
            f'{source}: expected model_type {" or ".join(MODEL_TYPES)}, found {kind!r}'
        )
    fields.pop('model_type')
    return AutoConfig.for_model(kind, **fields)
