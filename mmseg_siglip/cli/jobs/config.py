"""The config of a job, its data and its Runner."""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import RUNNERS

from mmseg_siglip.api.load import read_config
from mmseg_siglip.cli.common import one_line
from mmseg_siglip.cli.jobs.encoders import apply_encoder
from mmseg_siglip.engine import Runner
from mmseg_siglip.misspelt import meant

FURTHER = ('custom_imports', 'find_unused_parameters', 'runner_type', 'tta_model', 'tta_pipeline')
"""Settings that a config may have, besides those of the Runner."""


def load_config(args: argparse.Namespace) -> Config:
    """The config with the arguments above merged into it.

    Raises:
        ValueError: the file is missing, is not Python, cannot be parsed, or an override does not
            fit it; or there is no such encoder.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config)
    if args.encoder is not None:
        apply_encoder(cfg, args.encoder)
    override(cfg, args.cfg_options)
    set_launcher(cfg, args)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    cfg.setdefault('work_dir', str(Path('work_dirs', Path(args.config).stem)))
    args.work_dir = cfg.work_dir
    return cfg


def set_launcher(cfg: Config, args: argparse.Namespace) -> None:
    """What `add_launcher` asked for."""
    cfg.launcher = args.launcher
    if args.launcher != 'none':
        cfg.setdefault('env_cfg', {})
        cfg.env_cfg.patience = args.patience


def override(cfg: Config, options: Mapping | None) -> None:
    """Merge what ``--cfg-options`` says.

    Raises:
        ValueError: It does not fit.
    """
    known = {*cfg, *inspect.signature(Runner.__init__).parameters, *FURTHER}
    for key in options or {}:
        first = key.partition('.')[0]
        near = '' if first in known else meant(first, known, likeness=0.8)
        if near:
            raise ValueError(f'--cfg-options {key}: {cfg.filename} has no setting {first}{near}')
    unfit = KeyError, TypeError, IndexError, AssertionError, AttributeError, RecursionError
    try:
        cfg.merge_from_dict(options or {})
    except unfit as error:
        raise ValueError(f'--cfg-options do not fit {cfg.filename}: {one_line(error)}') from error


def require(cfg: Config, *fields: str) -> None:
    """Refuse a config that lacks a field."""
    for field in fields:
        if cfg.get(field) is None:
            raise ValueError(f'{cfg.filename} has no {field}.')


def require_data(dataset: Mapping) -> None:
    """Refuse a dataset whose local files are not there, before any model is built.

    Args:
        dataset: Its configuration. Without ``data_root``, or with a remote one, nothing is checked.
    """
    root = dataset.get('data_root')
    if not root or '://' in root:
        return
    for path in (Path(root), Path(root, dataset.get('ann_file') or '')):
        if not path.exists():
            raise ValueError(
                f'{path} is not there; prepare the data of {dataset["type"]}, or set data_root '
                'of the dataset'
            )


def build_runner(cfg: Config) -> Runner:
    """Our Runner, or the one that the config names as ``runner_type``."""
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
