"""What a row of the benchmark's table runs: a data set's config with an encoder and a method."""

from __future__ import annotations

import argparse
import inspect
import time
from collections.abc import Sequence
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_siglip.api.load import read_config
from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.cli.jobs.config import override, require, require_data, set_launcher
from mmseg_siglip.cli.jobs.encoders import apply_encoder, find_encoder_config, stands_on_an_encoder
from mmseg_siglip.cli.jobs.protocol import (
    PROTOCOLS,
    TWIN,
    method_fields,
    method_label,
    set_fields,
)
from mmseg_siglip.cli.jobs.test import place_checkpoint, use_windows
from mmseg_siglip.misspelt import did_you_mean
from mmseg_siglip.models.backbones.build import find_encoder_type
from mmseg_siglip.registry import MODELS


class OtherKind(ValueError):
    """No config of a data set is for an encoder of this kind."""


def find_config(name: str) -> Path:
    """The config of a dataset, or the .py file that is one.

    Raises:
        ValueError: There is none of that name.
    """
    if name.endswith('.py'):
        path = Path(name).expanduser()
        if not path.is_file():
            raise ValueError(f'config not found: there is no file {name}')
        return path
    folder = config_folder() / 'sclip'
    path = folder / f'{name.replace("-", "_")}.py'
    if not path.is_file():
        known = sorted(file.stem.replace('_', '-') for file in folder.glob('*.py'))
        raise ValueError(
            f'unknown dataset {name!r}; expected a .py config, or one of '
            f'{", ".join(known)}{did_you_mean(name, known)}'
        )
    return path


def check_distinct_configs(names: Sequence[str]) -> None:
    """Refuse two configs of one name, by which rows and pictures are told apart.

    Raises:
        ValueError: There are two, or none of some name.
    """
    paths: dict[str, Path] = {}
    for path in map(find_config, names):
        other = paths.setdefault(path.stem, path)
        if other.resolve() != path.resolve():
            raise ValueError(
                f'--datasets: expected configs of different names, found {other} and {path}'
            )


def encoder_kind(cfg: Config) -> str:
    """The type of a config's encoder, named or found from its weights."""
    backbone = cfg.model.backbone
    return backbone.get('type') or find_encoder_type(backbone.get('pretrained'))


def place_encoder(cfg: Config, args: argparse.Namespace) -> str:
    """Put the encoder that is asked for in its place; returns its kind."""
    if args.encoder is not None:
        apply_encoder(cfg, args.encoder)
    place_checkpoint(cfg, args.checkpoint)
    if args.checkpoint is None or cfg.get('load_from') is not None:
        return encoder_kind(cfg)
    return find_encoder_type(cfg.model.backbone.pretrained)


def compose(name: str, args: argparse.Namespace) -> Config:
    """The config of a dataset with the encoder in its place, and one image at a time.

    Raises:
        OtherKind: The encoder is of a kind that no config of this dataset is for.
        ValueError: The dataset is unknown, or its data are not there.
    """
    path = find_config(name)
    cfg = read_config(path)
    require(cfg, 'model', 'test_dataloader', 'test_evaluator', 'test_cfg')
    if 'backbone' not in cfg.model:
        raise ValueError(f'{path}: expected a model with a backbone, found {cfg.model.get("type")}')
    own, kind = encoder_kind(cfg), place_encoder(cfg, args)
    twin = path.with_stem(path.stem + TWIN)
    if kind != own and twin.is_file():
        cfg = read_config(twin)
        own = encoder_kind(cfg)
        place_encoder(cfg, args)
    if kind != own:
        raise OtherKind(f'{path} is for a {own}, {args.encoder or args.checkpoint} is a {kind}')
    cfg.test_dataloader.batch_size = 1
    override(cfg, args.cfg_options)
    require_data(cfg.test_dataloader.dataset)
    return cfg


def set_options(
    cfg: Config, method: str, args: argparse.Namespace, fields: dict[str, Any] | None = None
) -> None:
    """Put the arguments where a config has them, and what the method sets."""
    set_fields(cfg, method_fields(method) if fields is None else fields)
    model, dataset = cfg.model, cfg.test_dataloader.dataset
    takes = inspect.signature(MODELS.get(model.type)).parameters
    if 'postprocessor' not in takes and (args.pamr_steps or args.use_sam):
        raise ValueError(
            '--pamr-steps and --use-sam: expected a segmentor with postprocessors, '
            f'found {model.type} of {method_label(method)}'
        )
    if args.logit_scale is not None and 'logit_scale' in takes:
        model.logit_scale = args.logit_scale
    if args.pamr_steps is not None and 'postprocessor' in takes:
        pamr = dict(type='PAMRPostProcessor', num_iter=args.pamr_steps)
        model.postprocessor = pamr if args.pamr_steps else None
    if args.use_sam:
        model.postprocessor = sam_postprocessor(args)
    if args.slide_inference:
        use_windows(cfg)
    for key, side in (('crop_size', args.slide_crop), ('stride', args.slide_stride)):
        if side is not None and 'test_cfg' in model:
            model.test_cfg[key] = (side, side)
    if args.num_samples is not None:
        if 'num_scenes' in dataset:
            dataset.num_scenes = min(args.num_samples, dataset.num_scenes)
        else:
            dataset.indices = args.num_samples
    label = f'{Path(cfg.filename).stem}-{method_label(method)}'
    cfg.experiment_name = f'{label}-{time.time_ns()}'
    cfg.work_dir = str(args.work_dir / label)
    cfg.screen_level = 'WARNING'
    set_launcher(cfg, args)
    if args.save_vis is not None:
        cfg.default_hooks.visualization.update(draw=True, interval=1)
        cfg.visualizer.save_dir = str(args.save_vis / label)


def sam_postprocessor(args: argparse.Namespace) -> dict[str, Any]:
    """Configuration of the postprocessor that ``--use-sam`` asks for."""
    proposer = dict(sam=dict(type='SAMAdapter', checkpoint=args.use_sam))
    if args.sam_refine:
        proposer |= dict(type='SAMComponents', prompts_per_batch=args.sam_batch)
    else:
        proposer |= dict(
            type='SAMPointGrid', points_per_side=args.sam_points, points_per_batch=args.sam_batch
        )
    return dict(type='SAMProposals', proposer=proposer, label=args.sam_label)


def composed_for(name: str, args: argparse.Namespace) -> Config | OtherKind:
    """See `compose`; an encoder that does not fit is for its rows to tell."""
    try:
        return compose(name, args)
    except OtherKind as error:
        return error


def encoders_of(args: argparse.Namespace) -> list[argparse.Namespace]:
    """The arguments as they would be for each encoder alone.

    Raises:
        ValueError: There is no such encoder.
    """
    if not args.encoders:
        return [args]
    found = []
    for name in args.encoders:
        one, place = copy(args), Path(name).expanduser()
        one.work_dir = args.work_dir / place.stem
        one.save_vis = args.save_vis and args.save_vis / place.stem
        if place.exists() and place.suffix != '.py':
            one.checkpoint = name
        else:
            find_encoder_config(name)
            one.encoder = name
        found.append(one)
    return found


def encoder_label(cfg: Config, args: argparse.Namespace) -> str:
    """A row's encoder: the weights, or where one of several was asked for its name."""
    if args.encoders and args.encoder is not None and stands_on_an_encoder(cfg.model):
        return Path(args.encoder).stem
    if 'backbone' not in cfg.model:
        return ''
    return cfg.get('load_from') or cfg.model.backbone.pretrained


def prepare(cfg: Config, method: str, args: argparse.Namespace) -> Config:
    """The config of a row; `cfg` stays."""
    cfg = Config(deepcopy(cfg.to_dict()), filename=cfg.filename)
    fields = None
    if args.protocol:
        fields = PROTOCOLS[args.protocol](cfg, method)
        set_fields(cfg, fields)
        override(cfg, args.cfg_options)  # what a user says goes before what a paper says
        fields = {key: value for key, value in fields.items() if key == 'attention'}
    set_options(cfg, method, args, fields)
    return cfg
