"""Trained against training-free on ShapesWorld, a third of the coloured shapes withheld.

    python benchmarks/cat_seg_shapes.py

Trains configs/cat_seg/shapes.py (or takes a checkpoint), then evaluates it and the training-free
SCLIP of configs/sclip/shapes_pairs.py, on the same held-out scenes and the same encoder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from measure import report, write_csv
from mmengine.config import Config

from mmseg_siglip.engine import Runner

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
COLUMNS = ('mIoU', 'mIoU_seen', 'mIoU_withheld', 'mIoU_unseen_pairs')


def load(name: str, out: Path, images: int) -> Config:
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    cfg.work_dir = str(out / name.split('/')[0])
    cfg.test_dataloader.dataset.num_scenes = images
    return cfg


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--checkpoint', help='evaluate this one instead of training')
    parser.add_argument('--images', type=int, default=50, help='held-out scenes [%(default)s]')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/cat_seg_shapes'))
    args = parser.parse_args(argv)
    cat_seg = load('cat_seg/shapes', args.out, args.images)
    if args.checkpoint is None:
        training = Runner.from_cfg(load('cat_seg/shapes', args.out, args.images))
        training.train()
        args.checkpoint = str(Path(training.work_dir) / f'iter_{training.max_iters}.pth')
    cat_seg.load_from = args.checkpoint
    sclip = load('sclip/shapes_pairs', args.out, args.images)
    sclip.test_evaluator.class_groups = cat_seg.test_evaluator.class_groups
    rows = []
    for name, cfg in (('SCLIP, training-free', sclip), ('CAT-Seg', cat_seg)):
        cfg.experiment_name = f'{Path(cfg.work_dir).name}_test'
        metrics = Runner.from_cfg(cfg).test()
        rows.append(dict(model=name, **{column: metrics[column] for column in COLUMNS}))
    write_csv(rows, args.out / 'table.csv')
    report(rows)


if __name__ == '__main__':
    main()
