"""Trained models, ready to predict."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from textwrap import shorten
from typing import TypeVar

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from torch import nn

from mmseg_siglip.device import find_device
from mmseg_siglip.misspelt import did_you_mean, explain_settings
from mmseg_siglip.models.adapters.converters import advice
from mmseg_siglip.models.learnt_with import require_learnt_with
from mmseg_siglip.registry import MODELS, SCOPE
from mmseg_siglip.weights.checkpoint import is_mmengine_file, load_checkpoint_file

Model = TypeVar('Model', bound=nn.Module)


def read_config(config: str | Path | Config) -> Config:
    """A config, or that of a file, which runs as a program.

    Every command reads its configs here. Only Python files are taken, which show that they are
    programs: MMEngine obeys ``_base_`` and ``custom_imports`` in YAML and JSON, too.

    Raises:
        ValueError: There is no such file, it is not Python, or it fails.
    """
    if isinstance(config, Config):
        return config
    path = Path(config)
    if path.is_dir():
        inside = sorted(path.glob('*.py'))
        example = f' such as {inside[0]}' if inside else ''
        raise ValueError(f'{path} is a folder, expected a config: a .py file{example}')
    if not path.is_file():
        near = did_you_mean(path.name, (file.name for file in path.parent.glob('*.py')))
        raise ValueError(f'config not found: there is no file {path}{near or "."}')
    if path.suffix != '.py':
        raise ValueError(f'{path} is a {path.suffix or "nameless"} config, expected a .py file.')
    try:
        return Config.fromfile(path)
    except Exception as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise ValueError(f'{path} cannot be read: {reason}') from error


def load_trained(
    kind: type[Model],
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
) -> Model:
    """The model of a config, ready to predict.

    Args:
        kind: What it shall be.
        config: A config, or its file.
        checkpoint: Weights written by training; the config's ``load_from`` if not given. Of a
            training-free model also, or nothing, its encoder's: a file, folder or Hub id.
        device: By default the GPU, if there is one.

    Raises:
        ValueError: There are no weights, they do not fit, or the config is of another model.
    """
    config, device = read_config(config), find_device(device)
    described, checkpoint = describe_trained(config, checkpoint)
    with DefaultScope.overwrite_default_scope(SCOPE):
        try:
            model = MODELS.build(described)
        except (KeyError, TypeError) as error:
            unfit = explain_settings(error)
            if unfit is None:
                raise
            raise ValueError(f'{config.filename}: {unfit}') from error
    if not isinstance(model, kind):
        article = 'an' if kind.__name__[0] in 'AEIO' else 'a'
        raise ValueError(
            f'{config.filename}: expected {article} {kind.__name__}, found {type(model).__name__}'
        )
    if checkpoint is None:
        return model.to(device).eval()
    try:
        loaded = load_checkpoint(model, str(checkpoint), map_location='cpu', strict=True)
    except RuntimeError as error:
        reason = shorten(str(error).strip().splitlines()[-1], 300, placeholder=' ...')
        hint = advice(load_checkpoint_file(checkpoint))
        raise ValueError(f'{checkpoint} does not fit {config.filename}: {reason}{hint}') from error
    require_learnt_with(model, loaded, checkpoint)
    return model.to(device).eval()


def describe_trained(
    config: Config, checkpoint: str | Path | None = None
) -> tuple[ConfigDict, str | Path | None]:
    """What `load_trained` builds, and the weights of training that it loads then, if any do.

    Raises:
        ValueError: There are none, and the model is not training-free.
    """
    checkpoint, described = checkpoint or config.get('load_from'), deepcopy(config.model)
    is_file = checkpoint is not None and Path(checkpoint).is_file()
    free = getattr(MODELS.get(described.type), 'training_free', False)
    if not free or (is_file and is_mmengine_file(checkpoint)):
        if not is_file:
            raise ValueError(f'checkpoint not found: there is no file {checkpoint}.')
        return described, checkpoint
    if checkpoint is not None:
        described.backbone.pretrained = str(checkpoint)
    return described, None
