"""Finding out what a CLIP checkpoint is: architecture, weights and pixel statistics.

The activation (GELU or QuickGELU) leaves no trace in the weights, and neither does the number of
heads, so both come from where the weights come from, never from a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import open_clip
from huggingface_hub import hf_hub_download
from open_clip.constants import (
    HF_CONFIG_NAME,
    HF_SAFE_WEIGHTS_NAME,
    HF_WEIGHTS_NAME,
    OPENAI_DATASET_MEAN,
    OPENAI_DATASET_STD,
)
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from mmseg_siglip.models.adapters.transformers_clip import open_clip_config, to_open_clip
from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.state import read_state_dict

TRANSFORMERS_CLIP = 'vision_model.embeddings.class_embedding'
OPENAI_MARKS = ('input_resolution', 'context_length', 'vocab_size')


@dataclass(frozen=True)
class CLIPCheckpoint:
    """What `CLIPBackbone` needs to build a model.

    Attributes:
        config: open_clip's model configuration (``embed_dim``, ``vision_cfg``, ``text_cfg``, ...).
        state: The weights by open_clip's names; None for random weights.
        mean, std: RGB pixel statistics in 0..1.
    """

    config: dict
    state: dict[str, Tensor] | None
    mean: tuple[float, ...] = OPENAI_DATASET_MEAN
    std: tuple[float, ...] = OPENAI_DATASET_STD


def read_clip_checkpoint(source: str | Source, arch: str | Mapping | None) -> CLIPCheckpoint:
    """Resolve anything that names CLIP weights.

    Args:
        source: ``NAME:TAG`` of open_clip (``ViT-B-16:openai``) or OpenAI's ``ViT-B/16``; a folder
            or Hub id with ``open_clip_config.json`` or a transformers ``config.json``; a file of
            such a folder; an OpenAI ``.pt``; or any other weight file of an open_clip model, which
            needs `arch`.
        arch: open_clip's name of the architecture (``ViT-B-16``, ``ViT-B-16-quickgelu``), or its
            configuration.

    Raises:
        ValueError: Nothing is found there, or it is not a CLIP.
    """
    source = Source.open(source)
    if source.is_folder:
        return _from_folder(source)
    if source.is_file:
        return _from_file(source, arch)
    if source.open_clip_name is not None:
        return _from_open_clip(*source.open_clip_name)
    return _from_hub(source)


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


def _from_open_clip(name: str, tag: str) -> CLIPCheckpoint:
    config, pretrained = named_config(name), get_pretrained_cfg(name, tag)
    if not pretrained:
        tags = ', '.join(open_clip.list_pretrained_tags_by_model(name))
        raise ValueError(f'{name}: expected one of the weights {tags}; found {tag!r}')
    try:
        path = download_pretrained(pretrained)
    except (OSError, RuntimeError) as error:
        raise ValueError(f'{name}:{tag}: weights cannot be downloaded ({error})') from error
    config['quick_gelu'] = pretrained.get('quick_gelu', False)
    state = without_marks(read_state_dict(path))
    return CLIPCheckpoint(config, state, pretrained['mean'], pretrained['std'])


def _from_folder(source: Source) -> CLIPCheckpoint:
    if not source.open_clip_config and not (source.path / HF_CONFIG_NAME).is_file():
        return _from_transformers(str(source.path))
    for weights in (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME):
        if (source.path / weights).is_file():
            return _described(source.open_clip_config, read_state_dict(source.path / weights))
    raise ValueError(
        f'{source}: expected {HF_SAFE_WEIGHTS_NAME} or {HF_WEIGHTS_NAME} '
        f'beside {HF_CONFIG_NAME}, found neither'
    )


def _from_hub(source: Source) -> CLIPCheckpoint:
    if not source.open_clip_config:
        return _from_transformers(source.repository, source.revision)
    try:
        weights = hf_hub_download(source.repository, HF_SAFE_WEIGHTS_NAME, revision=source.revision)
    except (OSError, ValueError):
        weights = hf_hub_download(source.repository, HF_WEIGHTS_NAME, revision=source.revision)
    return _described(source.open_clip_config, read_state_dict(weights))


def _described(config: Mapping, state: dict[str, Tensor]) -> CLIPCheckpoint:
    """Weights with the ``open_clip_config.json`` that lies beside them."""
    pixels = config.get('preprocess_cfg', {})
    return CLIPCheckpoint(
        config.get('model_cfg', config),
        state,
        tuple(pixels.get('mean', OPENAI_DATASET_MEAN)),
        tuple(pixels.get('std', OPENAI_DATASET_STD)),
    )


def _from_transformers(source: str, revision: str | None = None) -> CLIPCheckpoint:
    try:
        model, report = CLIPModel.from_pretrained(
            source, revision=revision, output_loading_info=True, trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f'{source}: no CLIP checkpoint loads from there ({reason})') from error
    if report['missing_keys']:
        missing = sorted(report['missing_keys'])
        raise ValueError(f'{source}: {len(missing)} CLIP weights missing, first {missing[0]}')
    return CLIPCheckpoint(open_clip_config(model.config), to_open_clip(model.state_dict()))


def _from_file(source: Source, arch: str | Mapping | None) -> CLIPCheckpoint:
    state = source.tensors
    if arch is None and source.open_clip_config:
        return _described(source.open_clip_config, state)
    if source.has(TRANSFORMERS_CLIP):
        if source.model_type != 'clip':
            raise ValueError(
                f"{source}: expected config.json of transformers' CLIP beside it, which tells the "
                f'activation and the number of heads; found model_type {source.model_type!r}'
            )
        return CLIPCheckpoint(
            open_clip_config(CLIPConfig.from_dict(source.config)), to_open_clip(state)
        )
    if 'visual.conv1.weight' not in state:
        raise ValueError(
            f'{source}: expected CLIP weights with a ViT (visual.conv1.weight, ...), '
            f'found {", ".join(list(state)[:3])}, ...'
        )
    is_openai = any(mark in state for mark in OPENAI_MARKS)
    state = without_marks(state)
    if arch is not None:
        return CLIPCheckpoint(named_config(arch), state)
    if is_openai:
        return CLIPCheckpoint(openai_config(state), state)
    raise ValueError(
        f'{source}: the weights tell neither the activation (GELU or QuickGELU) nor the number of '
        f'heads; expected arch, for these shapes one of: {", ".join(fitting_names(state))}'
    )


def without_marks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the three numbers that OpenAI stores among the weights."""
    return {name: value for name, value in state.items() if name not in OPENAI_MARKS}


def openai_config(state: Mapping[str, Tensor]) -> dict:
    """Architecture of an OpenAI CLIP of any size: heads 64 wide, QuickGELU."""
    shape = shape_of(state)
    return dict(
        embed_dim=shape['embed_dim'],
        quick_gelu=True,
        vision_cfg=shape['vision_cfg'],
        text_cfg=dict(shape['text_cfg'], heads=shape['text_cfg']['width'] // 64),
    )


def shape_of(state: Mapping[str, Tensor]) -> dict:
    """The part of an open_clip configuration that the weights' shapes determine."""
    patch = state['visual.conv1.weight'].shape[-1]
    side = round((state['visual.positional_embedding'].shape[0] - 1) ** 0.5)
    return dict(
        embed_dim=state['text_projection'].shape[1],
        vision_cfg=dict(
            layers=_count_blocks(state, 'visual.transformer.resblocks.'),
            width=state['visual.conv1.weight'].shape[0],
            patch_size=patch,
            image_size=side * patch,
        ),
        text_cfg=dict(
            context_length=state['positional_embedding'].shape[0],
            vocab_size=state['token_embedding.weight'].shape[0],
            width=state['ln_final.weight'].shape[0],
            layers=_count_blocks(state, 'transformer.resblocks.'),
        ),
    )


def _count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split('.')[0] for name in state if name.startswith(prefix)})


def fitting_names(state: Mapping[str, Tensor]) -> list[str]:
    """open_clip architectures whose shapes are those of `state`."""
    shape = shape_of(state)

    def fits(config: dict) -> bool:
        return config['embed_dim'] == shape['embed_dim'] and all(
            config[tower].get(key) == value
            for tower in ('vision_cfg', 'text_cfg')
            for key, value in shape[tower].items()
        )

    return [name for name in open_clip.list_models() if fits(named_config(name))] or ['(none)']
