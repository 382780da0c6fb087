"""A vision tower from a name or path, its kind found from the checkpoint's own configuration."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from transformers import PretrainedConfig

from mmseg_siglip.vlm.checkpoints import read_vision_config
from mmseg_siglip.vlm.tower import CLIPVisionTower, SigLIPVisionTower, VisionTower
from mmseg_siglip.vlm.vision import CLIP_TYPES

TOWERS = {'siglip': SigLIPVisionTower, 'clip': CLIPVisionTower}
ENCODER_TYPES = {
    'auto': None,
    'siglip': 'siglip',
    'siglip2': 'siglip',
    'sigclip': 'siglip',
    'clip': 'clip',
}


@dataclass(frozen=True)
class CustomVisionConfig:
    """What to change about a vision tower; None leaves it as it would be.

    Attributes:
        image_size: Pixels, a side or (height, width); by default the checkpoint's own.
        vision_feature_layer: As in transformers' ``hidden_states``; by default a LLaVA
            checkpoint's own, or -2 of a tower.
        vision_feature_select_strategy: See `VisionTower`; by default a LLaVA checkpoint's own, or
            ``full`` of a SigLIP and ``patch`` of a CLIP.
    """

    image_size: int | tuple[int, int] | None = None
    vision_feature_layer: int | None = None
    vision_feature_select_strategy: str | None = None


def tower_options(config: CustomVisionConfig | Mapping | Any | None) -> dict[str, Any]:
    """``image_size``, ``select_layer`` and ``select_feature``, as far as `config` has a value.

    Args:
        config: A `CustomVisionConfig`, a mapping with its names, or any object with such
            attributes.

    Raises:
        ValueError: A name is unknown, or there is none of them.
    """
    names = [field.name for field in fields(CustomVisionConfig)]
    if config is None:
        return {}
    if isinstance(config, Mapping):
        unknown = sorted(set(config) - set(names))
        given = dict(config)
    else:
        unknown = []
        given = {name: getattr(config, name) for name in names if hasattr(config, name)}
    if unknown or not given:
        raise ValueError(
            f'custom_vision_config: expected some of {", ".join(names)}, '
            f'found {", ".join(unknown) or f"a {type(config).__name__} without any"}'
        )
    ours = dict(zip(names, ('image_size', 'select_layer', 'select_feature'), strict=True))
    return {ours[name]: value for name, value in given.items() if value is not None}


def check_encoder_type(encoder_type: str, config: PretrainedConfig, name: str) -> str:
    """``siglip`` or ``clip``, as the checkpoint says.

    Raises:
        ValueError: `encoder_type` is unknown, or says something else.
    """
    if encoder_type not in ENCODER_TYPES:
        raise ValueError(
            f'encoder_type: expected one of {", ".join(ENCODER_TYPES)}, found {encoder_type!r}'
        )
    if encoder_type == 'sigclip':
        warnings.warn(
            "encoder_type 'sigclip' is deprecated, its name is 'siglip'",
            FutureWarning,
            stacklevel=3,
        )
    found = 'clip' if config.model_type in CLIP_TYPES else 'siglip'
    wanted = ENCODER_TYPES[encoder_type]
    if wanted not in (None, found):
        raise ValueError(
            f'encoder_type: expected {found!r} or auto for {name}, which is a '
            f'{config.model_type}, found {encoder_type!r}'
        )
    return found


def build_vision_tower(
    name_or_path: str,
    encoder_type: str = 'auto',
    custom_vision_config: CustomVisionConfig | Mapping | Any | None = None,
    **options,
) -> VisionTower:
    """The tower of a SigLIP or CLIP checkpoint.

    Args:
        name_or_path: A transformers folder of any name, a Hub id, or the name of a checkpoint that
            ships with this package.
        encoder_type: ``auto``; or what the checkpoint is expected to be: ``siglip``, ``siglip2``,
            ``clip``. ``sigclip`` is an old name of ``siglip``.
        custom_vision_config: See `tower_options`.
        options: Further arguments of `VisionTower`.

    Raises:
        ValueError: There is no such encoder, or it is of another kind, or a value does not fit it.

    Examples:
        >>> import torch
        >>> from mmseg_siglip.vlm import build_vision_tower
        >>> tower = build_vision_tower('tiny_siglip_shapes', select_layer=-2)
        >>> tower(torch.randn(1, 3, 48, 48)).shape
        torch.Size([1, 36, 128])
    """
    config = read_vision_config(name_or_path, revision=options.get('revision'))
    kind = check_encoder_type(encoder_type, config, name_or_path)
    return TOWERS[kind](name_or_path, **(tower_options(custom_vision_config) | options))
