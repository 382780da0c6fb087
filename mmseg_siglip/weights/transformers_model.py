"""Models of transformers, every weight accounted for."""

from __future__ import annotations

import torch
from torch import nn
from transformers import AutoModel, PretrainedConfig

from mmseg_siglip.weights.state import refuse_missing_path


def load_model(
    source: str,
    config: PretrainedConfig,
    *,
    revision: str | None = None,
    attention: str | None = None,
) -> nn.Module:
    """A transformers model with every weight of the checkpoint, in float32.

    Args:
        source: Folder or Hub id.
        config: Of the model.
        revision: Commit of a Hub id.
        attention: transformers' name of an attention implementation; its choice by default.

    Raises:
        ValueError: The checkpoint is of another kind, or lacks weights.
    """
    refuse_missing_path(source)
    try:
        model, report = AutoModel.from_pretrained(
            source,
            config=config,
            revision=revision,
            dtype=torch.float32,
            attn_implementation=attention,
            output_loading_info=True,
            trust_remote_code=False,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f'{source}: weights do not load ({first_line(error)})') from error
    missing = sorted(report['missing_keys'])
    if missing:
        raise ValueError(
            f'{source}: expected all weights of a {config.model_type} model, '
            f'{len(missing)} are missing, first {missing[0]}'
        )
    return model


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
