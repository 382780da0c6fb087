"""One row of the benchmark's table: a test, timed and weighed."""

from __future__ import annotations

import argparse
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmseg_siglip.cli.jobs.benchmark_config import encoder_label
from mmseg_siglip.cli.jobs.benchmark_table import BLANK, NO_COUNTS, Done
from mmseg_siglip.cli.jobs.config import build_runner
from mmseg_siglip.cli.jobs.costs import MemoryWatch, flops_ratio, is_supervised, without_caches
from mmseg_siglip.cli.jobs.protocol import dataset_name, method_label, protocol_label
from mmseg_siglip.cli.jobs.stopwatch import Stopwatch
from mmseg_siglip.evaluation.bootstrap import confidence_interval, resampled_miou


def with_boundaries(cfg: Config) -> None:
    """Let a test measure boundaries, too."""
    evaluators = cfg.test_evaluator
    evaluators = list(evaluators) if isinstance(evaluators, (list, tuple)) else [evaluators]
    boundaries = dict(type='BoundaryIoUMetric')
    if not any(evaluator['type'] == boundaries['type'] for evaluator in evaluators):
        boundaries['ignore_index'] = evaluators[0].get('ignore_index', 255)
        cfg.test_evaluator = [*evaluators, boundaries]


def measure(
    cfg: Config,
    method: str,
    args: argparse.Namespace,
    published: tuple[float, str] | tuple[None, None],
) -> Done:
    """Run one test.

    Args:
        cfg: See `prepare`.
        method: Its name or file.
        args: Of the command.
        published: A figure to compare with, and its source.
    """
    encoder = encoder_label(cfg, args)
    with_boundaries(cfg)
    runner = build_runner(cfg)
    label = f'{dataset_name(cfg)} {method_label(method)}'
    without_caches(runner.model)
    flops = flops_ratio(runner)
    memory, stopwatch = MemoryWatch(), Stopwatch(label)
    for hook in (memory, stopwatch):
        runner.register_hook(hook)
    metrics = runner.test()
    images = len(runner.test_dataloader.dataset)
    seconds = (stopwatch.end - stopwatch.begin) / images
    counts = NO_COUNTS
    for metric in runner.test_loop.evaluator.metrics:
        counts = getattr(metric, 'counts', counts)
    row = dict(
        BLANK,
        dataset=dataset_name(cfg),
        attention=method_label(method),
        encoder=encoder,
        images=images,
        mIoU=percent(metrics['mIoU']),
        published_mIoU=published[0],
        published_source=published[1],
        mBIoU=percent(metrics['mBIoU']),
        aAcc=percent(metrics['aAcc']),
        images_per_second=round(1 / seconds, 3),
        seconds_per_image=round(seconds, 4),
        memory=None if memory.peak is None else round(memory.peak),
        flops=None if flops is None else round(flops, 3),
        supervised='yes' if is_supervised(runner.model) else 'no',
        protocol=protocol_label(cfg, method, args.protocol),
        sam=args.use_sam or '',
        sam_points=args.sam_points if args.use_sam and not args.sam_refine else '',
        **described(cfg, runner),
    )
    if counts.size:
        row['low'], row['high'] = confidence_interval(resampled_miou(counts))
    return Done(row, counts)


def percent(score: float) -> float:
    """A plain number, whatever a metric computes in."""
    return round(float(score), 2)


def described(cfg: Config, runner: Runner) -> dict[str, Any]:
    """The settings of a row that its reader may want to see."""
    model, windows = cfg.model, getattr(runner.model, 'test_cfg', None) or {}
    method = getattr(runner.model, 'method', None)
    sliding = windows.get('mode') == 'slide' and getattr(method, 'windows', True)
    resize = [t for t in cfg.test_dataloader.dataset.get('pipeline', ()) if t.type == 'Resize']
    steps = model.get('postprocessor') or []
    steps = [steps] if isinstance(steps, dict) else steps
    pamr = [step.get('num_iter', 10) for step in steps if step['type'] == 'PAMRPostProcessor']
    scale = getattr(runner.model, 'logit_scale', None)
    return dict(
        weights=cfg.get('load_from') or model.get('backbone', {}).get('pretrained', ''),
        pamr_steps=pamr[0] if pamr else 0,
        logit_scale=None if scale is None else round(float(scale), 3),
        prob_thd=model.get('prob_thd', 0),
        area_thd=model.get('area_thd'),
        short_side=resize[0].scale[1] if resize else None,
        slide_crop=windows['crop_size'][0] if sliding else None,
        slide_stride=windows['stride'][0] if sliding else None,
    )
