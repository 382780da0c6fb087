"""Finding out what a CLIP checkpoint is: architecture, weights and pixel statistics.

The activation (GELU or QuickGELU) leaves no trace in the weights, and neither does the number of
heads, so both come from where the weights come from, never from a guess.
"""

from __future__ import annotations

from collections.abc import Mapping

import open_clip
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from mmseg_siglip.models.adapters.converters import advice
from mmseg_siglip.models.adapters.transformers_clip import open_clip_config, to_open_clip
from mmseg_siglip.weights.foreign import as_data
from mmseg_siglip.weights.open_clip_checkpoint import (
    OpenClipCheckpoint,
    named_config,
    read_open_clip,
)
from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.transformers_model import config_of, load_model, load_model_config

TRANSFORMERS_CLIP = 'vision_model.embeddings.class_embedding'
OTHER = 'expected the weights of a CLIP with a ViT'
OPENAI_MARKS = ('input_resolution', 'context_length', 'vocab_size')


def read_clip_checkpoint(
    source: str | Source | None, arch: str | Mapping | None
) -> OpenClipCheckpoint:
    """Resolve anything that names CLIP weights.

    Args:
        source: ``NAME:TAG`` of open_clip (``ViT-B-16:openai``) or OpenAI's ``ViT-B/16``; a folder
            or Hub id with ``open_clip_config.json`` or a transformers ``config.json``; a file of
            such a folder; an OpenAI ``.pt``; or any other weight file of an open_clip model, which
            needs `arch`. None for random weights of `arch`.
        arch: open_clip's name of the architecture (``ViT-B-16``, ``ViT-B-16-quickgelu``), or its
            configuration.

    Raises:
        ValueError: Nothing is found there, or it is not a CLIP.
    """
    if source is None:
        return read_open_clip(None, arch)
    source = Source.open_encoder(source)
    if source.is_file:
        return _from_file(source, arch)
    if source.open_clip_name is None and not source.open_clip_config:
        return _from_transformers(source)
    checkpoint = read_open_clip(source)
    return OpenClipCheckpoint(checkpoint.config, without_marks(checkpoint.state), checkpoint.pixels)


def _from_transformers(source: Source) -> OpenClipCheckpoint:
    where = source.repository if source.is_hub else str(source.path)
    config = load_model_config(
        where, 'no CLIP checkpoint loads from there', revision=source.revision
    )
    if not isinstance(config, CLIPConfig):
        raise ValueError(
            f'{source}: expected a CLIP checkpoint, found model_type {config.model_type!r}'
        )
    model = load_model(where, config, kind=CLIPModel, revision=source.revision)
    if source.adapters is not None:
        source.adapters.merge(model)
    return OpenClipCheckpoint(clip_fields(config, source), to_open_clip(model.state_dict()))


def _from_file(source: Source, arch: str | Mapping | None) -> OpenClipCheckpoint:
    state = source.tensors
    if arch is None and source.open_clip_config:
        return read_open_clip(source)
    if source.has(TRANSFORMERS_CLIP):
        if arch is None and source.model_type != 'clip':
            raise ValueError(
                f"{source}: expected config.json of transformers' CLIP beside it, which tells the "
                f'activation and the number of heads; found model_type {source.model_type!r}'
            )
        if arch:
            fields = named_config(arch)
        else:
            fields = clip_fields(config_of(source.config, source), source)
        with as_data(source, OTHER):
            return OpenClipCheckpoint(fields, to_open_clip(state))
    if 'visual.conv1.weight' not in state:
        raise ValueError(
            f'{source}: expected CLIP weights with a ViT (visual.conv1.weight, ...), '
            f'found {", ".join(list(state)[:3])}, ...{advice(state)}'
        )
    is_openai = any(mark in state for mark in OPENAI_MARKS)
    state = without_marks(state)
    if arch is not None:
        return OpenClipCheckpoint(named_config(arch), state)
    if is_openai:
        with as_data(source, OTHER):
            return OpenClipCheckpoint(openai_config(state), state)
    with as_data(source, OTHER):
        names = ', '.join(fitting_names(state))
    raise ValueError(
        f'{source}: the weights tell neither the activation (GELU or QuickGELU) nor the number of '
        f'heads; expected arch, for these shapes one of: {names}'
    )


def clip_fields(config: CLIPConfig, source: Source) -> dict:
    """`open_clip_config`, its refusals with the name of the source."""
    with as_data(source, 'expected a CLIP that open_clip can express'):
        return open_clip_config(config)


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
