"""Checkpoints in open_clip's layout: configuration, weights and pixel statistics."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import open_clip
import timm
from huggingface_hub import hf_hub_download
from open_clip import CustomTextCLIP
from open_clip.constants import (
    HF_CONFIG_NAME,
    HF_SAFE_WEIGHTS_NAME,
    HF_WEIGHTS_NAME,
    OPENAI_DATASET_MEAN,
    OPENAI_DATASET_STD,
)
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from torch import Tensor, nn

from mmseg_siglip.weights.claims import check_size, size_of
from mmseg_siglip.weights.fetch import fetch
from mmseg_siglip.weights.foreign import as_data
from mmseg_siglip.weights.json_file import check_model_fields
from mmseg_siglip.weights.pixels import Statistics, check_statistics
from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.state import read_state_dict

OPENAI: Statistics = (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
HALVES: Statistics = ((0.5,) * 3, (0.5,) * 3)
FIELDS = ('embed_dim', 'vision_cfg', 'text_cfg', 'quick_gelu', 'init_logit_bias')


@dataclass(frozen=True)
class OpenClipCheckpoint:
    """What a model of open_clip's is built from.

    Attributes:
        config: open_clip's model configuration (``embed_dim``, ``vision_cfg``, ``text_cfg``, ...).
        state: The weights by open_clip's names; None for random weights.
        pixels: RGB mean and standard deviation in 0..1.
    """

    config: dict
    state: dict[str, Tensor] | None
    pixels: Statistics = OPENAI


def read_open_clip(
    source: Source | None, arch: str | Mapping | None = None, *, pixels: Statistics = OPENAI
) -> OpenClipCheckpoint:
    """Resolve what names weights in open_clip's layout.

    Args:
        source: ``NAME:TAG`` of open_clip; a folder or Hub id with ``open_clip_config.json``; a file
            beside one; or any file, whose `arch` must be told. None for random weights of `arch`.
        arch: open_clip's name of the architecture, or its configuration.
        pixels: Statistics where none are written down.

    Raises:
        ValueError: Nothing is found there, or `arch` is missing.
    """
    if source is not None and source.open_clip_name is not None:
        return _named(*source.open_clip_name)
    if source is None or source.is_file and arch is not None:
        return OpenClipCheckpoint(named_config(arch), source and source.tensors, pixels)
    config = source.open_clip_config
    if not config:
        raise ValueError(f'{source}: expected {HF_CONFIG_NAME} beside the weights, or arch')
    written = config.get('preprocess_cfg', {})
    mean, std = (written.get(key, own) for key, own in zip(('mean', 'std'), pixels, strict=True))
    pixels = check_statistics(mean, std, source)
    return OpenClipCheckpoint(source.open_clip_model, _weights(source), pixels)


def named_config(arch: str | Mapping) -> dict:
    """open_clip's configuration of that name; a configuration itself is copied.

    Raises:
        ValueError: open_clip has no such name.
    """
    if isinstance(arch, Mapping):
        return deepcopy(dict(arch))
    config = open_clip.get_model_config(arch)
    if config is None:
        raise ValueError(
            f'unknown CLIP architecture {arch!r}; expected a name of open_clip.list_models()'
        )
    return config


def plain_fields(config: Mapping) -> dict | None:
    """Arguments of open_clip's classes; None if a model needs more than these, or lacks some."""
    extra = [name for name, value in config.items() if value and name not in FIELDS]
    if set(extra) - {'custom_text'} or not {'embed_dim', 'vision_cfg', 'text_cfg'} <= set(config):
        return None
    if not all(isinstance(config[tower], Mapping) for tower in ('vision_cfg', 'text_cfg')):
        return None
    return {name: value for name, value in config.items() if name in FIELDS}


def build_open_clip(
    kind: type[nn.Module], fields: Mapping, source: object, state: Mapping[str, Tensor] | None
) -> nn.Module:
    """A model of open_clip's with random weights, in float32.

    Args:
        kind: One of its classes.
        fields: Its arguments.
        source: Where they come from, for messages.
        state: Weights that shall fill it, which its size is compared with.

    Raises:
        ValueError: The arguments fit no such model, or name parts that another library would fetch.
    """
    fields = check_model_fields(deepcopy(dict(fields)), source)

    def build() -> nn.Module:
        with as_data(source, "expected open_clip's configuration of a model, found none"):
            return kind(**fields)

    if state is not None:
        check_size(build, size_of(state), source)
    return build()


def build_timm_clip(
    config: Mapping, source: object, state: Mapping[str, Tensor] | None = None
) -> CustomTextCLIP | None:
    """An open_clip model of an image tower of timm's and a text tower of its own, with random
    weights; None if the configuration is of another kind."""
    fields = plain_fields(config)
    if fields is None or fields['text_cfg'].get('hf_model_name'):
        return None
    vision = dict(fields['vision_cfg'], timm_model_pretrained=False)
    if not is_timm_model(vision.get('timm_model_name')):
        return None
    return build_open_clip(CustomTextCLIP, dict(fields, vision_cfg=vision), source, state)


def is_timm_model(name: object) -> bool:
    """Whether timm knows a model of that name; a folder or repository is none."""
    return isinstance(name, str) and ':' not in name and timm.is_model(name.partition('.')[0])


def _named(name: str, tag: str) -> OpenClipCheckpoint:
    config, pretrained = named_config(name), get_pretrained_cfg(name, tag)
    if not pretrained:
        tags = ', '.join(open_clip.list_pretrained_tags_by_model(name))
        raise ValueError(f'{name}: expected one of the weights {tags}; found {tag!r}')
    try:
        path = _download(pretrained)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f'{name}:{tag}: weights cannot be downloaded ({error})') from error
    config['quick_gelu'] = pretrained.get('quick_gelu', False)
    pixels = pretrained['mean'], pretrained['std']
    return OpenClipCheckpoint(config, read_state_dict(path), pixels)


def _download(pretrained: Mapping) -> str | Path:
    """As open_clip does, but for a bare address, of which it believes whatever comes."""
    if pretrained.get('url') and not pretrained.get('hf_hub') and not pretrained.get('file'):
        return fetch(pretrained['url'])
    return download_pretrained(pretrained)


def _weights(source: Source) -> dict[str, Tensor]:
    if source.is_file:
        return source.tensors
    if source.is_hub:
        where = dict(repo_id=source.repository, revision=source.revision)
        try:
            path = hf_hub_download(filename=HF_SAFE_WEIGHTS_NAME, **where)
        except (OSError, ValueError):
            path = hf_hub_download(filename=HF_WEIGHTS_NAME, **where)
        return read_state_dict(path)
    for name in (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME):
        if (source.path / name).is_file():
            return read_state_dict(source.path / name)
    raise ValueError(
        f'{source}: expected {HF_SAFE_WEIGHTS_NAME} or {HF_WEIGHTS_NAME} '
        f'beside {HF_CONFIG_NAME}, found neither'
    )
