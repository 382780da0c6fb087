"""The config of a job, its data and its Runner."""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner as BaseRunner

from mmseg_siglip.api.load import read_config
from mmseg_siglip.cli.common import one_line
from mmseg_siglip.cli.jobs import saved
from mmseg_siglip.cli.jobs.encoders import apply_encoder
from mmseg_siglip.engine import Runner
from mmseg_siglip.engine.runner import unwrapped
from mmseg_siglip.misspelt import did_you_mean

READ = (
    *inspect.signature(BaseRunner.__init__).parameters.keys() - {'self', 'cfg'},
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
)
"""What a Runner, or a job before it, reads of a config."""


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
        ValueError: It does not fit, or changes what nothing reads any more: a misspelt name, or a
            variable of which the config has made its settings already.
    """
    unread = [key for key in options or {} if key.split('.')[0] not in READ]
    if unread and 'runner_type' not in cfg:
        name = unread[0].split('.')[0]
        raise ValueError(
            f'--cfg-options {unread[0]}: nothing reads {name} of {cfg.filename}'
            + (did_you_mean(name, READ) or '; expected what its value went into')
        )
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
    """Our Runner, or the one that the config names as ``runner_type``.

    Raises:
        ValueError: The weights of the saved system that the config names do not fit; see `saved`.
    """
    with saved.room(cfg[saved.FIELD]) if saved.FIELD in cfg else nullcontext():
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    if saved.FIELD in cfg:
        saved.load_weights(unwrapped(runner.model), cfg[saved.FIELD])
    return runner
