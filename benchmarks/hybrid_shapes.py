"""SCLIP on ShapesWorld: dense alone, PAMR, SAM's proposals, SAM's refinement; regions and outlines.

    python benchmarks/hybrid_shapes.py --out hybrid.csv

The shipped SigLIP classifies, the shipped small SAM outlines (`configs/sam`); both learnt from
other scenes. ``mBIoU`` is the IoU of what lies within 1 % of the diagonal of an outline.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from measure import markdown, report, write_csv
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.engine import Runner
from mmseg_siglip.registry import SCOPE


def variants(sam: str) -> dict[str, dict | None]:
    """Postprocessors by name."""
    adapter = dict(type='SAMAdapter', checkpoint=sam)
    grid = dict(Config.fromfile(config_folder() / 'sclip/shapes_sam.py').model.postprocessor)
    grid['proposer']['sam'] = adapter
    refine = dict(type='SAMProposals', proposer=dict(type='SAMComponents', sam=adapter))
    pamr = dict(type='PAMRPostProcessor')
    return {
        'dense alone': None,
        'PAMR': pamr,
        'PAMR, dilations 1, 2, 4': dict(pamr, dilations=(1, 2, 4)),
        'SAM proposals, vote': grid,
        'SAM proposals, mean_logit': dict(grid, label='mean_logit'),
        'SAM proposals, pooled_feature': dict(grid, label='pooled_feature'),
        'SAM refinement': refine,
        'SAM refinement, trimmed': dict(refine, trim=True),
    }


def score(name: str, postprocessor: dict | None, args: argparse.Namespace) -> dict:
    cfg = Config.fromfile(config_folder() / 'sclip/shapes.py')
    cfg.model.postprocessor = postprocessor
    cfg.test_dataloader.dataset.update(num_scenes=args.images, split=args.split)
    cfg.test_evaluator = [cfg.test_evaluator, dict(type='BoundaryIoUMetric', dilation_ratio=0.01)]
    cfg.work_dir = str(args.work_dir)
    cfg.experiment_name = f'hybrid-{time.time_ns()}'
    cfg.log_level = 'WARNING'
    runner = Runner.from_cfg(cfg)
    MMLogger.get_current_instance().setLevel('WARNING')
    _ = runner.model.text
    started = time.perf_counter()
    metrics = runner.test()
    seconds = (time.perf_counter() - started) / args.images
    return {
        'postprocessor': name,
        'mIoU': round(metrics['mIoU'], 2),
        'shapes': metrics['mIoU_shapes'],
        'ground': metrics['mIoU_ground'],
        'mBIoU': round(metrics['mBIoU'], 2),
        's / image': seconds,
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Compare postprocessors on ShapesWorld.')
    parser.add_argument('--images', type=int, default=50, help='scenes [%(default)s]')
    parser.add_argument('--split', default='test', choices=['val', 'test'], help='[%(default)s]')
    parser.add_argument('--sam', default='tiny_sam_shapes', help='weights [%(default)s]')
    parser.add_argument('--only', nargs='+', metavar='TEXT', help='names that hold one of these')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/hybrid_shapes'))
    parser.add_argument('--out', type=Path, metavar='CSV')
    args = parser.parse_args(argv)
    init_default_scope(SCOPE)
    rows = []
    for name, postprocessor in variants(args.sam).items():
        if not args.only or any(text in name for text in args.only):
            rows.append(score(name, postprocessor, args))
            print(markdown(rows[-1:]), flush=True)
    report([{k: str(v) if k != 's / image' else v for k, v in r.items()} for r in rows])
    if args.out:
        write_csv(rows, args.out)


if __name__ == '__main__':
    main()
