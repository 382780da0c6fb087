"""The weights of a guide, wherever they lie and in whichever layout, as a model of transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import hf_hub_download
from torch import Tensor, nn
from transformers import PretrainedConfig

from mmseg_siglip.models.adapters.timm_vit import MARK, to_transformers_vit
from mmseg_siglip.models.backbones.transformers_backbone import describe_model
from mmseg_siglip.weights.foreign import as_data
from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.state import read_state_dict
from mmseg_siglip.weights.transformers_model import build_model, load_model

TIMM_WEIGHTS = 'model.safetensors'


def load_vit(
    pretrained: str | None,
    *,
    config: Mapping | None,
    model_types: tuple[str, ...],
    published: Callable[[Mapping[str, Tensor]], dict[str, Any]],
    rename: Callable[[Mapping[str, Tensor], str], dict[str, Tensor]] = to_transformers_vit,
    revision: str | None = None,
    fields: Mapping[str, Any] | None = None,
    unread: tuple[str, ...] = (),
) -> nn.Module:
    """A ViT with every weight accounted for, in float32.

    Args:
        pretrained: Hub id or folder of transformers or of timm, timm's name of a model with its
            tag, or a weight file by the names of transformers or of its publisher. None draws
            random weights by `config`.
        config: Fields of transformers' configuration, with its ``model_type`` if there is a choice:
            all of them for random weights, those that shapes do not tell for a file.
        model_types: The kinds that are taken, the usual one first.
        published: The configuration that the tensors of a publisher's file tell.
        rename: Those tensors by transformers' names of a kind of model.
        revision: Commit of a Hub id.
        fields: Of the configuration, whatever a checkpoint says.
        unread: How the names of tensors begin that a file may hold and a guide never reads.

    Raises:
        ValueError: Nothing of that kind is there, or weights do not fit.
    """
    fields = dict(fields or {})
    if pretrained is None:
        if config is None:
            raise ValueError('expected pretrained or config of a guide, found neither')
        described = described_by(dict(config) | fields, model_types)
        return build_model(described, **without_pooler(described))
    source = Source.open(of_timm(pretrained), revision=revision)
    state = source.tensors if source.is_file else timm_tensors(source)
    if state is not None:
        state = {name: value for name, value in state.items() if not name.startswith(unread)}
    if state is None:
        if config is not None:
            raise ValueError(f'{source}: brings its own configuration; drop config')
        described = describe_model(source.name, model_types, revision=revision)
    elif MARK in state:
        if published is None:
            raise ValueError(
                f"{source}: expected a {model_types[0]} model by transformers' names, found the "
                f'layout of {MARK}'
            )
        with as_data(source, 'expected the weights of a ViT'):
            found = dict(model_type=model_types[0]) | published(state)
        described = described_by(found | dict(config or {}) | fields, model_types)
        with as_data(source, 'expected the weights of a ViT'):
            state = rename(state, described.model_type)
    elif config is not None:
        described = described_by(dict(config) | fields, model_types)
    else:
        described = describe_model(str(source.folder), model_types)
    for name, value in fields.items():
        setattr(described, name, value)
    parts = without_pooler(described)
    return load_model(source.name, described, state=state, revision=revision, **parts)


def without_pooler(config: PretrainedConfig) -> dict[str, bool]:
    """For a constructor: no pooler where it is a choice, as its weights may be missing."""
    return dict(add_pooling_layer=False) if config.model_type == 'vit' else {}


def described_by(config: Mapping, model_types: tuple[str, ...]) -> PretrainedConfig:
    """A configuration by a mapping, of the usual kind unless it says another.

    Raises:
        ValueError: It says one that is not taken.
    """
    return describe_model(dict(model_type=model_types[0]) | dict(config), model_types)


def of_timm(pretrained: str) -> str:
    """The Hub id of one of timm's names, ``vit_base_patch8_224.dino``; any other as it is."""
    if '/' in pretrained or Path(pretrained).exists():
        return pretrained
    return f'timm/{pretrained}' if timm.is_model(pretrained.partition('.')[0]) else pretrained


def timm_tensors(source: Source) -> dict[str, Tensor] | None:
    """What timm's folder or Hub repository holds; None where it is not timm's."""
    if source.model_type is not None or 'architecture' not in source.config:
        return None
    if source.is_hub:
        path = hf_hub_download(source.repository, TIMM_WEIGHTS, revision=source.revision)
    else:
        path = source.folder / TIMM_WEIGHTS
    return read_state_dict(path)
