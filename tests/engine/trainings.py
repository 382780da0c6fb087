"""Trainings that must end alike: ``python trainings.py FOLDER SYSTEM:WAY,WAY...``.

Two steps of four samples, in several ways, forked from this process before anything has started a
thread. FOLDER gets ``SYSTEM.WAY.RANK.pth`` for each way and each of its processes: by how much each
trained weight has moved, by its name; or, if it failed, ``SYSTEM.WAY.RANK.failed``.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import traceback
from pathlib import Path

import torch
from mmengine.config import Config

from mmseg_siglip.cli.jobs.config import build_runner
from mmseg_siglip.engine.runner import unwrapped

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SAMPLES, STEPS = 4, 2
WAYS = dict(
    batch=(1, 1),
    accumulated=(1, 2),
    processes=(2, 1),
    both=(2, 2),
    compiled=(1, 1),
    both_compiled=(2, 2),
    bfloat16=(1, 1),
)
"""Processes, and micro-batches of a step in each."""

PIPELINE = 'train_dataloader.dataset.pipeline'
CAT_SEG = {
    'model.templates': 'single',
    f'{PIPELINE}.1.type': 'CenterCrop',
    f'{PIPELINE}.2.prob': 0.0,
}
NEGATIVE = {'model.decode_head.loss_decode.ignore_as_negative': True}
DEPTH = {f'{PIPELINE}.1.prob': 0.0, 'load_from': None}
REFER = {
    'model.encoder.train_sizes': (),
    'train_dataloader.dataset.phrases_per_image': 1,
    'train_dataloader.dataset.test_mode': True,
    f'{PIPELINE}.1.prob': 0.0,
}
FEW = {
    'train_dataloader.dataset.num_questions': 64,
    'train_dataloader.dataset.num_scenes': 64,
}
ALONE = {'model.decode_head.contrast_loss_weight': 0.0}
SYSTEMS = dict(
    cat_seg=('cat_seg/shapes.py', CAT_SEG | NEGATIVE),
    cat_seg_counted=('cat_seg/shapes.py', CAT_SEG),
    depth=('dpt/shapes_frozen.py', DEPTH),
    depth_finetune=('dpt/shapes_finetune.py', DEPTH),
    normals=('normals/shapes.py', {f'{PIPELINE}.2.prob': 0.0}),
    refer=('refer_sam/shapes.py', REFER),
    cascade=('refer_sam/shapes_cascade.py', REFER | ALONE),
    cascade_contrast=('refer_sam/shapes_cascade.py', REFER),
    rsrefseg2=('refer_sam/shapes_rsrefseg2.py', REFER | ALONE),
    rsrefseg2_contrast=('refer_sam/shapes_rsrefseg2.py', REFER),
    llava=('vlm/shapes.py', FEW),
)
"""Config and options, without anything drawn at random."""


def config_of(system: str, folder: Path, way: str) -> Config:
    file, options = SYSTEMS[system]
    processes, parts = WAYS[way]
    cfg = Config.fromfile(CONFIGS / file)
    cfg.merge_from_dict(
        options
        | {
            'work_dir': str(folder / f'{system}.{way}'),
            'launcher': 'pytorch' if processes > 1 else 'none',
            'train_dataloader.batch_size': SAMPLES // (processes * parts),
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'optim_wrapper.optimizer': dict(_delete_=True, type='SGD', lr=0.01, weight_decay=0.0),
            'optim_wrapper.accumulative_counts': parts,
            'optim_wrapper.clip_grad': None,  # would hide a wrong factor
            'train_cfg.max_iters': STEPS * parts,
            'default_hooks.checkpoint': None,
            'randomness': dict(seed=0),
        }
    )
    if way.endswith('compiled'):
        cfg.compile = dict(backend='aot_eager')
    cfg.optim_wrapper.type = 'OptimWrapper'
    cfg.optim_wrapper.pop('dtype', None)
    if way == 'bfloat16':
        cfg.optim_wrapper.update(type='AmpOptimWrapper', force=True)
    cfg.param_scheduler = cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    return cfg


def train(system: str, way: str, rank: int, folder: Path) -> dict[str, torch.Tensor]:
    """By how much each trained weight moves."""
    runner = build_runner(config_of(system, folder, way))
    model = unwrapped(runner.model)
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    runner.train()
    return {name: model.get_parameter(name).detach() - old for name, old in before.items()}


def start(system: str, way: str, folder: Path) -> list[int]:
    """The processes that train so."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(WAYS[way][0]):
        child = os.fork()
        if child == 0:
            os.environ.update(RANK=str(rank), WORLD_SIZE=str(WAYS[way][0]), LOCAL_RANK=str(rank))
            os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
            file = folder / f'{system}.{way}.{rank}.pth'
            try:
                torch.save(train(system, way, rank, folder), file)
            except BaseException:
                file.with_suffix('.failed').write_text(traceback.format_exc())
            os._exit(0)
        children.append(child)
    return children


def main(folder: str, *trainings: str) -> None:
    gc.freeze()
    torch.set_num_threads(1)
    for training in trainings:
        system, _, ways = training.partition(':')
        for child in [
            child for way in ways.split(',') for child in start(system, way, Path(folder))
        ]:
            os.waitpid(child, 0)


if __name__ == '__main__':
    main(*sys.argv[1:])
