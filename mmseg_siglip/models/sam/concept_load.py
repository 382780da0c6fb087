"""SAM 3 checkpoints, with CLIP's text tower or a lite one, to transformers models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import AutoImageProcessor, PretrainedConfig

from mmseg_siglip.models.backbones.transformers_backbone import NO_PARTS
from mmseg_siglip.weights.pixels import Statistics, check_statistics
from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.tokenizers import load_tokenizer
from mmseg_siglip.weights.transformers_model import (
    build_model,
    config_of,
    load_model,
    load_part,
)

KINDS = ('sam3', 'sam3_lite_text')
VIDEO = 'sam3_video'
HALF = ((0.5,) * 3, (0.5,) * 3)
"""Mean and standard deviation that SAM 3 was trained with, of RGB in [0, 1]."""


def load_sam3(
    pretrained: str | None,
    *,
    config: Mapping | None,
    tokenizer: str | None,
    image_size: int | None,
    revision: str | None,
    attention: str,
) -> tuple[nn.Module, Any, Statistics]:
    """A transformers Sam3Model or Sam3LiteTextModel in float32, its tokenizer (None where nothing
    tells which), and mean and standard deviation of RGB in [0, 1].

    Raises:
        ValueError: Nothing of that kind is there, or weights, tokenizer or image processor do not
            load.
    """
    if pretrained is None and config is None:
        raise ValueError('SAM3Adapter: expected pretrained or config, found neither')
    source = None if pretrained is None else Source.open(pretrained, revision=revision)
    if source is not None and not source.is_file and config is not None:
        raise ValueError(f'{source}: brings its own configuration; drop config')
    fields = source.config if config is None else config
    settings = image_settings(fields, str(source or 'config'))
    set_image_size(settings, image_size)
    if source is None:
        model = build_model(settings, attention=attention)
    else:
        model = load_model(
            source.name,
            settings,
            state=source.tensors if source.is_file else None,
            revision=source.revision,
            attention=attention,
        )
    if config is not None:
        own = tokenizer and tokenizer_of(tokenizer, settings)
        return model, own, HALF
    where = str(source.folder or source.name)
    words = tokenizer or where
    own = tokenizer_of(words, settings, revision=None if tokenizer else revision)
    return model, own, statistics_of(where, revision=revision)


def image_settings(fields: Mapping, name: str) -> PretrainedConfig:
    """transformers' configuration of the image model.

    SAM 3 is published as a video model, of which it is the detector.

    Raises:
        ValueError: It is of another model; the sentence begins with `name`.
    """
    fields = dict(fields)
    kind = found = fields.pop('model_type', None)
    if kind == VIDEO:
        fields = dict(fields.get('detector_config') or {})
        kind = fields.pop('model_type', KINDS[0])
    if kind not in KINDS:
        raise ValueError(
            f'{name}: expected model_type {", ".join(KINDS)} or {VIDEO}, found {found!r}'
            f'{"" if fields or found else ", as no config.json can be read there"}'
        )
    return config_of(dict(fields, model_type=kind), name)


def set_image_size(settings: PretrainedConfig, side: int | None) -> None:
    """Let the model see squares of `side` pixels.

    Raises:
        ValueError: They are not whole patches.
    """
    patch = settings.vision_config.backbone_config.patch_size
    if side is None:
        return
    if side < patch or side % patch:
        raise ValueError(
            f'SAM3Adapter: expected image_size in multiples of {patch} pixels, found {side}'
        )
    settings.image_size = side


def tokenizer_of(where: str, settings: PretrainedConfig, *, revision: str | None = None) -> Any:
    """The tokenizer in a folder or Hub repository.

    Raises:
        ValueError: There is none, or but a small part of one.
    """
    return load_tokenizer(
        where, missing=NO_PARTS, revision=revision, tokens=settings.text_config.vocab_size
    )


def statistics_of(where: str, *, revision: str | None) -> Statistics:
    """Mean and standard deviation of the image processor in a folder or Hub repository."""
    processor = load_part(
        AutoImageProcessor, where, NO_PARTS, revision=revision, backend='torchvision'
    )
    return check_statistics(processor.image_mean, processor.image_std, where)
