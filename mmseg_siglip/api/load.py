"""Trained models, ready to predict."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from torch import nn

from mmseg_siglip.device import find_device
from mmseg_siglip.registry import MODELS, SCOPE

Model = TypeVar('Model', bound=nn.Module)


def read_config(config: str | Path | Config) -> Config:
    """A config, or that of a file.

    Raises:
        ValueError: There is no such file.
    """
    if isinstance(config, Config):
        return config
    if not Path(config).is_file():
        raise ValueError(f'config not found: there is no file {config}.')
    return Config.fromfile(config)


def load_trained(
    kind: type[Model],
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
) -> Model:
    """The trained model of a config, ready to predict.

    Args:
        kind: What it shall be.
        config: A config, or its file.
        checkpoint: Weights written by training; the config's ``load_from`` if not given.
        device: By default the GPU, if there is one.

    Raises:
        ValueError: There are no weights, they do not fit, or the config is of another model.
    """
    config, device = read_config(config), find_device(device)
    checkpoint = checkpoint or config.get('load_from')
    if checkpoint is None or not Path(checkpoint).is_file():
        raise ValueError(f'checkpoint not found: there is no file {checkpoint}.')
    with DefaultScope.overwrite_default_scope(SCOPE):
        model = MODELS.build(config.model)
    if not isinstance(model, kind):
        raise ValueError(
            f'{config.filename}: expected a {kind.__name__}, found {type(model).__name__}'
        )
    try:
        load_checkpoint(model, str(checkpoint), map_location='cpu', strict=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f'{checkpoint} does not fit {config.filename}: {reason}') from error
    return model.to(device).eval()
