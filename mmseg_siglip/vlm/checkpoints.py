"""Configurations and weights of vision encoders and language models; no code of theirs is run."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionModel,
    PretrainedConfig,
    PreTrainedModel,
    Siglip2VisionModel,
    SiglipVisionModel,
)
from transformers.utils import logging

from mmseg_siglip.models.backbones.transformers_trunk import TransformersTrunk
from mmseg_siglip.weights.source import bundled
from mmseg_siglip.weights.transformers_model import (
    build_model,
    config_of,
    load_model,
    load_model_config,
)

VISION_MODELS = {
    'siglip_vision_model': SiglipVisionModel,
    'siglip2_vision_model': Siglip2VisionModel,
    'clip_vision_model': CLIPVisionModel,
}
PARENTS = {'siglip': 'vision_config', 'siglip2': 'vision_config', 'clip': 'vision_config'}
RELEASED = tuple(
    f'google/{name}'
    for name in (
        *(f'siglip-base-patch16-{size}' for size in ('224', '256', '384', '512')),
        'siglip-base-patch16-256-multilingual',
        *(f'siglip-large-patch16-{size}' for size in ('256', '384')),
        *(f'siglip-so400m-patch14-{size}' for size in ('224', '384')),
        'siglip-so400m-patch16-256-i18n',
        'siglip2-base-patch32-256',
        *(f'siglip2-base-patch16-{size}' for size in ('224', '256', '384', '512', 'naflex')),
        *(f'siglip2-large-patch16-{size}' for size in ('256', '384', '512')),
        *(f'siglip2-so400m-patch14-{size}' for size in ('224', '384')),
        *(f'siglip2-so400m-patch16-{size}' for size in ('256', '384', '512', 'naflex')),
        *(f'siglip2-giant-opt-patch16-{size}' for size in ('256', '384')),
    )
)


def read_transformers_config(source: str, *, revision: str | None = None) -> PretrainedConfig:
    """The transformers configuration of a folder or Hub id.

    Raises:
        ValueError: There is none, or it needs code of its own.
    """
    missing = 'no configuration that transformers knows'
    if source.startswith('google/siglip') and source not in RELEASED:
        nearest = difflib.get_close_matches(source, RELEASED, n=3)
        missing = f'no such model was released, did you mean {" or ".join(nearest)}?'
    with quiet():
        return load_model_config(source, missing, revision=revision)


def read_vision_config(source: str, *, revision: str | None = None) -> PretrainedConfig:
    """The configuration of an encoder's vision part.

    Raises:
        ValueError: There is none, or it is of something else.
    """
    config = read_transformers_config(bundled(source), revision=revision)
    if config.model_type in PARENTS:
        return getattr(config, PARENTS[config.model_type])
    if config.model_type in VISION_MODELS:
        return config
    kinds = ', '.join((*PARENTS, *VISION_MODELS))
    raise ValueError(
        f'{source}: expected a vision encoder (model_type {kinds}), found {config.model_type!r}'
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' table of weights that a part of a checkpoint does not use."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def load_vision_model(
    source: str,
    config: PretrainedConfig,
    *,
    num_blocks: int | None = None,
    revision: str | None = None,
) -> nn.Module:
    """The vision part of an encoder in float32.

    Args:
        source: Folder or Hub id.
        config: What `read_vision_config` gave.
        num_blocks: Leave out the blocks above, the final norm and the pooling head; None reads all.
        revision: Commit of a Hub id.

    Raises:
        ValueError: Weights are missing.
    """
    config = copy.deepcopy(config)
    if num_blocks is not None:
        config.num_hidden_layers = num_blocks
        if hasattr(config, 'vision_use_head') or config.model_type.startswith('siglip'):
            config.vision_use_head = False
    with quiet():
        kind = VISION_MODELS[config.model_type]
        model = load_model(source, config, kind=kind, revision=revision)
    if num_blocks is not None:
        TransformersTrunk(model).drop_norm()
    return model.eval()


def load_language_model(source: str | Mapping, *, revision: str | None = None) -> PreTrainedModel:
    """A causal language model in float32; of a configuration (a mapping) with random weights.

    Raises:
        ValueError: It is of another kind, or lacks weights.
    """
    if isinstance(source, Mapping):
        return build_model(config_of(source), kind=AutoModelForCausalLM).eval()
    config = read_transformers_config(source, revision=revision)
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise ValueError(
            f'{source}: expected a causal language model, found model_type {config.model_type!r}'
        )
    with quiet():
        return load_model(source, config, kind=AutoModelForCausalLM, revision=revision).eval()
