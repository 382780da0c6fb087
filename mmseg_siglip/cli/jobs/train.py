"""Training."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MessageHub

from mmseg_siglip.cli.jobs.config import build_runner, load_config, require
from mmseg_siglip.weights.checkpoint import step_of


def use_amp(cfg: Config) -> None:
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind == 'OptimWrapper':
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    elif kind != 'AmpOptimWrapper':
        raise ValueError(f'--amp needs optim_wrapper.type OptimWrapper, found {kind}.')


def resume(cfg: Config, checkpoint: str) -> None:
    """Resume from a file; or from the run's folder, where there is something to resume from."""
    if checkpoint == 'auto':
        cfg.resume = 'auto'
        return
    if '://' not in checkpoint and not Path(checkpoint).expanduser().is_file():
        raise ValueError(f'checkpoint not found: there is no file {checkpoint}.')
    cfg.load_from, cfg.resume = checkpoint, True


def newest_saved(args: argparse.Namespace) -> Path | None:
    """The newest checkpoint, whether or not it is whole, which would take longer to say."""
    last = MessageHub.get_current_instance().get_info('last_ckpt')
    if last and Path(last).is_file():
        return Path(last)
    folder = Path(last).parent if last else Path(args.work_dir or '')
    steps = {step_of(file.name): file for file in folder.glob('*.pth')}
    steps.pop(None, None)
    return steps[max(steps)] if steps else None


def train(args: argparse.Namespace) -> None:
    cfg = load_config(args)
    require(cfg, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
    if args.amp:
        use_amp(cfg)
    if args.resume is not None:
        resume(cfg, args.resume)
    build_runner(cfg).train()
