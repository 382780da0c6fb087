"""``--encoder NAME``: a model on another encoder, by a file of ``configs/_base_/encoders``.

Such a file says ``encoder``, the configuration of a backbone, and ``encoder_size``, the (H, W) in
pixels that it is meant for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config

from mmseg_siglip.api.load import read_config
from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.registry import MODELS

WORK_DIRS = Path('work_dirs')


def find_encoder_config(name: str) -> Path:
    """The file of an encoder.

    Args:
        name: A name of ``configs/_base_/encoders``, or the path of a file like those.

    Raises:
        ValueError: There is neither.
    """
    folder = config_folder() / '_base_/encoders'
    for path in (Path(name).expanduser(), folder / f'{name}.py'):
        if path.suffix == '.py' and path.is_file():
            return path
    known = ', '.join(sorted(path.stem for path in folder.glob('*.py')))
    raise ValueError(f'--encoder: expected a .py file, or one of {known}; found {name!r}')


def stands_on_an_encoder(model: Mapping) -> bool:
    """Whether an encoder is the backbone of this configuration of a model."""
    backbone = model.get('backbone')
    if not isinstance(backbone, Mapping):
        return False
    kind = MODELS.get(backbone['type']) if 'type' in backbone else VisionLanguageBackbone
    return kind is not None and issubclass(kind, VisionLanguageBackbone)


def apply_encoder(cfg: Config, name: str) -> None:
    """Put an encoder in the place of the config's own.

    ``model.backbone`` is replaced as a whole, and ``model.encoder_size`` where there is one. The
    folder of results, and a ``load_from`` in ``work_dirs``, which an earlier stage wrote with the
    same option, get the encoder's name after their own.

    Args:
        cfg: A config, changed in place.
        name: See `find_encoder_config`.

    Raises:
        ValueError: There is no such encoder, or the model stands on none.
    """
    path = find_encoder_config(name)
    given = read_config(path)
    if not isinstance(given.get('encoder'), Mapping):
        raise ValueError(f'{path}: expected encoder=dict(type=..., ...), found no such setting')
    model = cfg.get('model') or {}
    if not stands_on_an_encoder(model):
        raise ValueError(
            '--encoder: expected a model with an image-text encoder as its backbone, '
            f'found {model.get("type")} of {cfg.filename}'
        )
    model.backbone = given.encoder
    if 'encoder_size' in model and 'encoder_size' in given:
        model.encoder_size = given.encoder_size
    for key in ('encoder', 'encoder_size'):
        if key in given:
            cfg[key] = given[key]
    own = cfg.get('work_dir') or WORK_DIRS / Path(cfg.filename).stem
    cfg.work_dir = f'{own}_{path.stem}'
    start = Path(cfg.get('load_from') or '')
    if start.parts[:1] == WORK_DIRS.parts:
        cfg.load_from = str(start.parent.with_name(f'{start.parent.name}_{path.stem}') / start.name)
