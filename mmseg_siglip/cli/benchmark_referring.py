"""A referring model on several data sets and at several resolutions, one table:
``tools/benchmark.py CHECKPOINT --referring rsrefseg_b --sizes 384 512``."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process

from mmseg_siglip.cli.common import add_launcher, build_runner, one_line, require_data
from mmseg_siglip.cli.encoders import add_encoder_argument, apply_encoder
from mmseg_siglip.cli.stopwatch import Stopwatch, machine
from mmseg_siglip.cli.test import place_checkpoint
from mmseg_siglip.demo import config_folder
from mmseg_siglip.io.files import write_csv

SCORES = ('oIoU', 'mIoU', 'Pr@0.5', 'Pr@0.6', 'Pr@0.7', 'Pr@0.8', 'Pr@0.9')
COLUMNS = ('config', 'SigLIP sees', 'images', *SCORES, 'images/s')


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='a trained model')
    parser.add_argument(
        '--referring', nargs='+', required=True, metavar='NAME', help='names of configs/refer_sam'
    )
    add_encoder_argument(parser)
    parser.add_argument(
        '--sizes',
        nargs='+',
        type=size,
        default=[None],
        metavar='PIXELS',
        help="what SigLIP sees: a side, or HEIGHTxWIDTH [the configs' own]",
    )
    parser.add_argument('--num-samples', type=int, metavar='N', help='the first N images of each')
    parser.add_argument('--out', type=Path, metavar='CSV', help='the table as a file')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/benchmark'))
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    add_launcher(parser)
    args = parser.parse_args(argv)
    if args.num_samples is not None and args.num_samples < 1:
        parser.error(f'--num-samples: expected at least 1, found {args.num_samples}')
    return args


def size(text: str) -> tuple[int, int]:
    """``384`` or ``256x384``."""
    match = re.fullmatch(r'([1-9]\d*)(?:x([1-9]\d*))?', text)
    if not match:
        raise argparse.ArgumentTypeError(f'expected a side or HEIGHTxWIDTH, found {text!r}')
    return int(match[1]), int(match[2] or match[1])


def compose(name: str, args: argparse.Namespace) -> Config:
    """The config of that name with the checkpoint in its place.

    Raises:
        ValueError: There is none, or no such encoder, or its data are not there.
    """
    folder = config_folder() / 'refer_sam'
    path = folder / f'{name.replace("-", "_")}.py'
    if not path.is_file():
        known = ', '.join(sorted(file.stem for file in folder.glob('*.py')))
        raise ValueError(f'unknown referring config {name!r}; expected one of {known}')
    cfg = Config.fromfile(path)
    if args.encoder is not None:
        apply_encoder(cfg, args.encoder)
    place_checkpoint(cfg, args.checkpoint)
    try:
        cfg.merge_from_dict(args.cfg_options or {})
    except (KeyError, TypeError, IndexError, AssertionError) as error:
        raise ValueError(f'--cfg-options do not fit {path}: {one_line(error)}') from error
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
    cfg.work_dir, cfg.launcher = str(args.work_dir / label), args.launcher
    cfg.log_level = 'WARNING'
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


def benchmark(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    rows: list[dict] = []
    for cfg in [compose(name, args) for name in args.referring]:
        for sees in args.sizes:
            rows.append(measure(cfg, sees, args))
            if args.out is not None and is_main_process():
                write_csv(rows, args.out)
    if is_main_process():
        print(f'{table(rows)}\n\n{machine()}')
