"""How long training waits for data, and what compiling it is worth.

    python benchmarks/training.py [--compile]

Each system trains by its config on ShapesWorld, whose scenes are drawn on demand, with its own
batch size. `data_time` and `time` are what MMEngine logs of an iteration: the median, the first
ones left out. With --compile, iterations by torch.compile's inductor against plain ones, the best
of each.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from measure import report
from mmengine.config import Config

from mmseg_siglip.engine import Runner

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
SYSTEMS = {
    'CAT-Seg': 'cat_seg/shapes.py',
    'DPT': 'dpt/shapes_frozen.py',
    'DPT with normals': 'normals/shapes.py',
    'referring, cascade': 'refer_sam/shapes_cascade.py',
    'referring, rsrefseg2': 'refer_sam/shapes_rsrefseg2.py',
}
WARM = 3


def train(file: str, folder: str, iterations: int, workers: int, **options) -> dict[str, list]:
    """Seconds of each iteration that is counted: ``data_time`` and ``time``."""
    cfg = Config.fromfile(CONFIGS / file)
    cfg.merge_from_dict(
        dict(
            work_dir=folder,
            experiment_name=f'{Path(file).stem}_{time.monotonic_ns()}',
            log_level='ERROR',
            train_cfg=dict(max_iters=iterations + WARM),
            train_dataloader=dict(num_workers=workers, persistent_workers=workers > 0),
            default_hooks=dict(checkpoint=None),
            randomness=dict(seed=0),
        )
        | options
    )
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    runner = Runner.from_cfg(cfg)
    runner.train()
    return {
        name: runner.message_hub.get_scalar(f'train/{name}').data[0][WARM:].tolist()
        for name in ('data_time', 'time')
    }


def waiting(file: str, folder: str, iterations: int, workers: int) -> dict[str, float]:
    found = {name: median(s) for name, s in train(file, folder, iterations, workers).items()}
    return {
        'workers': workers,
        'data s': found['data_time'],
        'step s': found['time'],
        'waiting, %': 100 * found['data_time'] / found['time'],
    }


def compiling(file: str, folder: str, iterations: int) -> dict[str, float]:
    fixed = {'model.encoder.train_sizes': ()} if file.startswith('refer') else {}
    plain, compiled = (
        min(train(file, folder, iterations, 1, **fixed, **options)['time'])
        for options in ({}, dict(compile=dict(backend='inductor')))
    )
    return {'plain s': plain, 'compiled s': compiled, 'plain / compiled': plain / compiled}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--systems', nargs='+', choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument('--iterations', type=int, default=20)
    parser.add_argument('--workers', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--compile', action='store_true')
    args = parser.parse_args()
    rows = []
    with TemporaryDirectory() as folder:
        for name in args.systems:
            if args.compile:
                parts = [compiling(SYSTEMS[name], folder, args.iterations)]
            else:
                parts = [waiting(SYSTEMS[name], folder, args.iterations, n) for n in args.workers]
            rows += [dict(system=name) | part for part in parts]
    report(rows)


if __name__ == '__main__':
    main()
