"""Several benchmarks and attentions, one table."""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config
from mmengine.dist import is_main_process
from open_clip.pretrained import get_pretrained_cfg

from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.cli.jobs.config import build_runner, override, require_data
from mmseg_siglip.cli.jobs.encoders import apply_encoder
from mmseg_siglip.cli.jobs.stopwatch import Stopwatch, machine
from mmseg_siglip.cli.jobs.test import place_checkpoint
from mmseg_siglip.io.files import write_csv
from mmseg_siglip.models.backbones.build import find_encoder_type
from mmseg_siglip.models.dense import build_method
from mmseg_siglip.weights.source import split_name

TWIN = '_siglip2'
PLACES = ('data_root', 'data_prefix', 'indices', 'num_scenes')  # of data, and how much of them
COLUMNS = {
    'dataset': 'dataset',
    'attention': 'attention',
    'encoder': 'encoder',
    'images': 'images',
    'mIoU': 'mIoU',
    'published_mIoU': 'mIoU, published',
    'images_per_second': 'images/s',
}


def find_config(name: str) -> Path:
    """The config of a dataset.

    Raises:
        ValueError: There is none of that name.
    """
    folder = config_folder() / 'sclip'
    path = folder / f'{name.replace("-", "_")}.py'
    if not path.is_file():
        known = ', '.join(sorted(file.stem.replace('_', '-') for file in folder.glob('*.py')))
        raise ValueError(f'unknown dataset {name!r}; expected one of {known}')
    return path


def place_encoder(cfg: Config, args: argparse.Namespace) -> str:
    """Put the encoder that is asked for in its place; returns its kind."""
    if args.encoder is not None:
        apply_encoder(cfg, args.encoder)
    place_checkpoint(cfg, args.checkpoint)
    if args.checkpoint is None or cfg.get('load_from') is not None:
        return cfg.model.backbone.type
    return find_encoder_type(cfg.model.backbone.pretrained)


def compose(name: str, args: argparse.Namespace) -> Config:
    """The config of a dataset with the encoder in its place.

    Raises:
        ValueError: The dataset is unknown, its data are not there, or the encoder is of a kind
            that no config of this dataset is for.
    """
    path = find_config(name)
    cfg = Config.fromfile(path)
    own, kind = cfg.model.backbone.type, place_encoder(cfg, args)
    twin = path.with_stem(path.stem + TWIN)
    if kind != own and twin.is_file():
        cfg = Config.fromfile(twin)
        own = cfg.model.backbone.type
        place_encoder(cfg, args)
    if kind != own:
        raise ValueError(f'{path} is for a {own}, {args.encoder or args.checkpoint} is a {kind}')
    override(cfg, args.cfg_options)
    require_data(cfg.test_dataloader.dataset)
    return cfg


def set_options(cfg: Config, attention: str, args: argparse.Namespace) -> None:
    """Put the arguments where a config has them."""
    model, dataset = cfg.model, cfg.test_dataloader.dataset
    model.attention = attention
    if args.logit_scale is not None:
        model.logit_scale = args.logit_scale
    if args.pamr_steps is not None:
        pamr = dict(type='PAMRPostProcessor', num_iter=args.pamr_steps)
        model.postprocessor = pamr if args.pamr_steps else None
    if args.use_sam:
        model.postprocessor = sam_postprocessor(args)
    for key, side in (('crop_size', args.slide_crop), ('stride', args.slide_stride)):
        if side is not None:
            model.test_cfg[key] = (side, side)
    if args.num_samples is not None:
        if 'num_scenes' in dataset:
            dataset.num_scenes = min(args.num_samples, dataset.num_scenes)
        else:
            dataset.indices = args.num_samples
    label = f'{Path(cfg.filename).stem}-{attention}'
    cfg.experiment_name = f'{label}-{time.time_ns()}'
    cfg.work_dir = str(args.work_dir / label)
    cfg.launcher, cfg.log_level = args.launcher, 'WARNING'
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


def is_published_encoder(source: str) -> bool:
    """Whether weights are OpenAI's ViT-B/16: by name, or a file by its SHA-256."""
    path = Path(source)
    if path.is_file():
        url = get_pretrained_cfg('ViT-B-16', 'openai')['url']
        return hashlib.sha256(path.read_bytes()).hexdigest() in url
    name, tag = split_name(source)
    return (name.removesuffix('-quickgelu'), tag) == ('ViT-B-16', 'openai')


def settings(cfg: Config) -> dict[str, Any]:
    """What a score depends on besides the encoder and the number of images."""
    model, evaluators = deepcopy(cfg.model.to_dict()), deepcopy(cfg.test_evaluator)
    del model['backbone']['pretrained']
    model.setdefault('postprocessor', None)
    dataset = cfg.test_dataloader.dataset
    for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
        evaluator.pop('output_dir', None)
    return dict(
        model=model,
        dataset={key: value for key, value in dataset.items() if key not in PLACES},
        evaluators=evaluators,
    )


def published(cfg: Config) -> tuple[float, str] | tuple[None, None]:
    """The published mIoU and its source, if `cfg` has the settings that it was published for."""
    path = Path(cfg.filename)
    original = Config.fromfile(path)
    if not is_published_encoder(cfg.model.backbone.pretrained) or cfg.get('load_from'):
        return None, None
    if settings(cfg) != settings(original):
        return None, None
    metafile = yaml.safe_load((path.parent / 'metafile.yml').read_text(encoding='utf-8'))
    for entry in metafile['Models']:
        for result in entry.get('Results', ()):
            if Path(entry['Config']).stem == path.stem and result['Source'].startswith('published'):
                return result['Metrics']['mIoU'], result['Source']
    return None, None


def measure(cfg: Config, attention: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run one test; a row of the table."""
    cfg = Config(deepcopy(cfg.to_dict()), filename=cfg.filename)
    set_options(cfg, attention, args)
    name = Path(cfg.filename).stem
    figure, source = published(cfg)
    runner = build_runner(cfg)
    stopwatch = Stopwatch(f'{name} {attention}')
    runner.register_hook(stopwatch)
    metrics = runner.test()
    images = len(runner.test_dataloader.dataset)
    windows = runner.model.test_cfg
    return dict(
        dataset=name.removesuffix(TWIN),
        attention=attention,
        encoder=cfg.get('load_from') or cfg.model.backbone.pretrained,
        images=images,
        mIoU=metrics['mIoU'],
        published_mIoU=figure,
        published_source=source,
        images_per_second=round(images / (stopwatch.end - stopwatch.begin), 3),
        sam=args.use_sam or '',
        sam_points=args.sam_points if args.use_sam and not args.sam_refine else '',
        pamr_steps=(cfg.model.get('postprocessor') or {}).get('num_iter', 0),
        logit_scale=round(float(runner.model.logit_scale), 3),
        slide_crop=windows['crop_size'][0],
        slide_stride=windows['stride'][0],
    )


def short_name(encoder: str) -> str:
    return Path(encoder).name if Path(encoder).exists() else encoder


def table(rows: Sequence[dict]) -> str:
    """Markdown; a dash where nothing comparable is published."""
    lines = [f'| {" | ".join(COLUMNS.values())} |', '|---|---|---|--:|--:|--:|--:|']
    for row in rows:
        cells = dict(row, mIoU=f'{row["mIoU"]:.2f}', encoder=short_name(row['encoder']))
        cells['published_mIoU'] = '—' if row['published_mIoU'] is None else row['published_mIoU']
        lines.append(f'| {" | ".join(str(cells[key]) for key in COLUMNS)} |')
    sources = dict.fromkeys(row['published_source'] for row in rows if row['published_source'])
    notes = [f'\nPublished figures are of whole data sets ({source}).' for source in sources]
    return '\n'.join([*lines, *notes])


def benchmark(args: argparse.Namespace) -> None:
    for attention in args.attention:
        build_method(attention)
    configs = [compose(name, args) for name in args.datasets]
    rows: list[dict] = []
    for cfg in configs:
        for attention in args.attention:
            rows.append(measure(cfg, attention, args))
            if args.out is not None and is_main_process():
                write_csv(rows, args.out)
    if is_main_process():
        print(f'{table(rows)}\n\n{machine()}')
