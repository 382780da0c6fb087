"""A referring model on several data sets and at several resolutions, one table."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process

from mmseg_siglip.api.load import read_config
from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.cli.jobs.config import build_runner, override, require_data, set_launcher
from mmseg_siglip.cli.jobs.encoders import apply_encoder
from mmseg_siglip.cli.jobs.stopwatch import Stopwatch, machine
from mmseg_siglip.cli.jobs.test import place_checkpoint
from mmseg_siglip.io.files import write_csv

SCORES = ('oIoU', 'mIoU', 'Pr@0.5', 'Pr@0.6', 'Pr@0.7', 'Pr@0.8', 'Pr@0.9')
COLUMNS = ('config', 'SigLIP sees', 'images', *SCORES, 'images/s')


def compose(name: str, args: argparse.Namespace) -> Config:
    """The config of that name, or .py file, with the checkpoint in its place.

    Raises:
        ValueError: There is none, or no such encoder, or its data are not there.
    """
    folder = config_folder() / 'refer_sam'
    path = folder / f'{name.replace("-", "_")}.py'
    if name.endswith('.py'):
        path = Path(name).expanduser()
    if not path.is_file():
        known = ', '.join(sorted(file.stem for file in folder.glob('*.py')))
        raise ValueError(
            f'unknown referring config {name!r}; expected a .py config, or one of {known}'
        )
    cfg = read_config(path)
    if args.encoder is not None:
        apply_encoder(cfg, args.encoder)
    place_checkpoint(cfg, args.checkpoint)
    override(cfg, args.cfg_options)
    require_data(cfg.test_dataloader.dataset)
    return cfg


def measure(cfg: Config, sees: tuple[int, int] | None, args: argparse.Namespace) -> dict[str, Any]:
    """Run one test; a row of the table."""
    cfg = Config(deepcopy(cfg.to_dict()), filename=cfg.filename)
    if sees is not None:
        cfg.model.setdefault('encoder', {})['image_size'] = sees
    dataset, name = cfg.test_dataloader.dataset, Path(cfg.filename).stem
    if args.encoder is not None:
        name += f'_{Path(args.encoder).stem}'
    if args.num_samples is not None:
        if 'num_scenes' in dataset:
            dataset.num_scenes = min(args.num_samples, dataset.num_scenes)
        else:
            dataset.indices = args.num_samples
    shown = 'own size' if sees is None else f'{sees[0]}x{sees[1]}'
    label = f'{name}-{shown.replace(" ", "_")}'
    cfg.experiment_name = f'{label}-{time.time_ns()}'
    cfg.work_dir = str(args.work_dir / label)
    set_launcher(cfg, args)
    cfg.screen_level = 'WARNING'
    runner = build_runner(cfg)
    stopwatch = Stopwatch(f'{name} {shown}')
    runner.register_hook(stopwatch)
    metrics = runner.test()
    images = len(runner.test_dataloader.dataset)
    return {
        'config': name,
        'SigLIP sees': shown,
        'images': images,
        **{score: metrics[score] for score in SCORES},
        'images/s': round(images / (stopwatch.end - stopwatch.begin), 3),
    }


def table(rows: Sequence[dict]) -> str:
    """Markdown."""
    lines = [f'| {" | ".join(COLUMNS)} |', '|---|---|' + '--:|' * (len(COLUMNS) - 2)]
    for row in rows:
        cells = [f'{row[key]:.2f}' if key in SCORES else str(row[key]) for key in COLUMNS]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def benchmark(args: argparse.Namespace) -> None:
    rows: list[dict] = []
    for cfg in [compose(name, args) for name in args.referring]:
        for sees in args.sizes:
            rows.append(measure(cfg, sees, args))
            if args.out is not None and is_main_process():
                write_csv(rows, args.out)
    if is_main_process():
        print(f'{table(rows)}\n\n{machine()}')
