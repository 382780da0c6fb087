"""SAM, SAM 2 and segment-anything checkpoints to transformers models."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from mmengine.logging import print_log
from torch import nn
from transformers import PretrainedConfig, Sam2Config

from mmseg_siglip.models.adapters import sam2
from mmseg_siglip.models.adapters.segment_anything import (
    MARK,
    POSITION,
    TIED_POSITION,
    sam_config,
    to_transformers,
)
from mmseg_siglip.weights.claims import size_of
from mmseg_siglip.weights.foreign import as_data
from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.state import load_strict
from mmseg_siglip.weights.transformers_model import (
    build_model,
    check_model_size,
    config_of,
    load_model,
)

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
    if checkpoint is None:
        if config is None:
            raise ValueError('SAMAdapter: expected checkpoint or config, found neither')
        settings = _from_mapping(config)
        model, found = _random(settings, attention), settings.model_type
    else:
        model, found = _from_source(Source.open(checkpoint, revision=revision), config, attention)
    if kind not in ('auto', found):
        raise ValueError(
            f'{checkpoint or "config"}: expected a model of kind {kind}, found {found}'
        )
    return model, found


def _from_source(source: Source, config: Mapping | None, attention: str) -> tuple[nn.Module, str]:
    if source.is_file:
        return _from_file(source, config, attention)
    if config is not None:
        raise ValueError(f'{source}: brings its own configuration; drop config')
    settings = _settings_of(source)
    model = load_model(source.name, settings, revision=source.revision, attention=attention)
    return model, settings.model_type


def _random(config: PretrainedConfig, attention: str) -> nn.Module:
    model = build_model(config, attention=attention)
    code, own = model.shared_image_embedding, model.prompt_encoder.shared_embedding
    with torch.no_grad():
        # SAM draws its position code from N(0, 1); transformers, from a width-dependent spread
        # that would make neighbouring positions unrelated. Points share the image's code.
        code.positional_embedding.normal_()
        own.positional_embedding.copy_(code.positional_embedding)
    return model


def _from_file(source: Source, config: Mapping | None, attention: str) -> tuple[nn.Module, str]:
    state = dict(source.tensors)
    if MARK in state:
        if config is not None:
            raise ValueError(f'{source}: its tensors tell the configuration; drop config')
        with as_data(source, 'expected the weights of a SAM'):
            settings, state = sam_config(state), to_transformers(state)
        found = 'segment_anything'
    elif sam2.MARK in state:
        if config is not None:
            raise ValueError(f'{source}: its tensors tell the configuration; drop config')
        whole, state = state, sam2.image_part(state)
        if left_out := len(whole) - len(state):
            print_log(
                f'{source} is read without {left_out} tensors that only videos need', 'current'
            )
        with as_data(source, 'expected the weights of a SAM 2'):
            settings, state = sam2.sam2_config(state), sam2.to_sam2(state)
        found = settings.model_type
    elif any(name.startswith('vision_encoder.') for name in state):
        settings = _from_mapping(config) if config else _settings_of(source)
        found = settings.model_type
        if POSITION in state:  # a file holds tied tensors once
            state.setdefault(TIED_POSITION, state[POSITION])
    else:
        raise ValueError(
            f'{source}: expected weights of SAM in the names of segment-anything ({MARK}), of '
            f'sam2 ({sam2.MARK}) or of transformers (vision_encoder.*), found {next(iter(state))}'
        )
    check_model_size(settings, size_of(state), source)
    model = _random(settings, attention)
    load_strict(model, state, source.name)
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
    return config_of(dict(fields, model_type=kind))


def _settings_of(source: Source) -> PretrainedConfig:
    fields = dict(source.config)
    kind = fields.get('model_type')
    if kind == 'sam2_video':  # SAM 2 is published as a video model; its image part is a Sam2Model
        parts = {name: fields[name] for name in Sam2Config.sub_configs if name in fields}
        return config_of(dict(parts, model_type='sam2'), source)
    if kind not in MODEL_TYPES:
        raise ValueError(
            f'{source}: expected model_type {" or ".join(MODEL_TYPES)}, found {kind!r}'
            f'{"" if fields else ", as no config.json can be read there"}'
        )
    return config_of(fields, source)
