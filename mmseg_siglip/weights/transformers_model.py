"""Models of transformers, every weight accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoModel, PretrainedConfig

from mmseg_siglip.weights.state import refuse_missing_path


def load_model(
    source: str,
    config: PretrainedConfig,
    *,
    kind: type = AutoModel,
    state: Mapping[str, Tensor] | None = None,
    revision: str | None = None,
    attention: str | None = None,
    **parts: Any,
) -> nn.Module:
    """A transformers model with every weight of the checkpoint, in float32.

    Args:
        source: Folder or Hub id; with `state`, what messages call it.
        config: Of the model.
        kind: The class whose ``from_pretrained`` loads it; `AutoModel`, or with `state` a class of
            models.
        state: The weights of a bare file, by the model's names or those that it is published under.
        revision: Commit of a Hub id.
        attention: transformers' name of an attention implementation; its choice by default.
        parts: For the model's constructor, such as ``add_pooling_layer``.

    Raises:
        ValueError: The checkpoint is of another kind, or lacks weights, or `state` has too many.
    """
    if state is None:
        refuse_missing_path(source)
        load, options = kind.from_pretrained, dict(pretrained_model_name_or_path=source)
    else:
        load = (MODEL_MAPPING[type(config)] if kind is AutoModel else kind).from_pretrained
        # Copies, as transformers would make these very tensors the model's parameters.
        state = {name: value.clone() for name, value in state.items()}
        options = dict(pretrained_model_name_or_path=None, state_dict=state)
    try:
        model, report = load(
            config=config,
            revision=revision,
            dtype=torch.float32,
            attn_implementation=attention,
            output_loading_info=True,
            trust_remote_code=False,
            **options,
            **parts,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f'{source}: weights do not load ({first_line(error)})') from error
    for found, keys in (('missing', 'missing_keys'), ('unknown', 'unexpected_keys')):
        names = sorted(report[keys])
        if names and (found == 'missing' or state is not None):
            raise ValueError(
                f'{source}: expected all weights of a {config.model_type} model, '
                f'{len(names)} are {found}, first {names[0]}'
            )
    return model


def load_part(kind: type, source: str, missing: str, **options: Any) -> Any:
    """What is no model: a configuration, a tokenizer, a processor.

    Args:
        kind: The class whose ``from_pretrained`` loads it, without code of the checkpoint's.
        source: Folder or Hub id.
        missing: What messages say where there is none.
        options: For ``from_pretrained``.

    Raises:
        ValueError: None loads.
    """
    refuse_missing_path(source)
    try:
        return kind.from_pretrained(source, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{source}: {missing} ({first_line(error)})') from error


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
