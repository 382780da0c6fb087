"""Configs of depth with normals: they build, and one trains, is evaluated and asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_siglip.datasets.shapes_world.scene import generate
from mmseg_siglip.registry import DATASETS, METRICS, MODELS, TRANSFORMS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/normals'
EVERY = sorted(path.stem for path in CONFIGS.glob('*.py'))
FEW = [
    'train_dataloader.batch_size=4',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'train_dataloader.dataset.size=(48,64)',
    'train_dataloader.dataset.num_scenes=64',
    *(
        f'{loader}_dataloader.{option}'
        for loader in ('val', 'test')
        for option in (
            'num_workers=0',
            'persistent_workers=False',
            'dataset.size=(48,64)',
            'dataset.num_scenes=4',
        )
    ),
    'default_hooks.logger.interval=2',
    'default_hooks.checkpoint.interval=12',
    'randomness.seed=3',
]
SHORT = ['train_cfg.max_iters=12', 'param_scheduler.0.end=2', 'param_scheduler.1.begin=2',
         'param_scheduler.1.end=12']  # fmt: skip


@pytest.mark.parametrize('name', EVERY)
def test_builds(name):
    init_default_scope('mmseg_siglip')
    config = Config.fromfile(CONFIGS / f'{name}.py')
    config.model.backbone.pretrained = 'tiny_siglip_shapes'
    model = MODELS.build(config.model)
    assert model.has_normals and model.normal_head.losses[0].loss_name == 'loss_angle'
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        assert DATASETS.get(loader.dataset.type)
        types = [transform.type for transform in loader.dataset.pipeline]
        assert all(map(TRANSFORMS.get, types))
        place = types.index('NormalsFromDepth')
        assert types[place - 1].startswith('Load') and types[-1] == 'PackSegInputs'
        assert not any('Flip' in kind or 'Crop' in kind for kind in types[:place])
    depth, normals = (METRICS.build(metric) for metric in config.test_evaluator)
    assert (depth.prefix, normals.prefix) == ('depth', 'normals')
    assert depth.max_depth == model.decode_head.max_depth


def test_a_batch_of_the_config_trains_both_decoders():
    init_default_scope('mmseg_siglip')
    config = Config.fromfile(CONFIGS / 'shapes.py')
    config.train_dataloader.dataset.update(size=(48, 64), num_scenes=2)
    model = MODELS.build(config.model).train()
    dataset = DATASETS.build(config.train_dataloader.dataset)
    batch = model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), True)
    losses = model(**batch, mode='loss')
    assert set(losses) == {'decode.loss_silog', 'normals.loss_angle'}
    sum(losses.values()).backward()
    for head in model.heads:
        assert all(p.grad.isfinite().all() and p.grad.any() for p in head.parameters())
    assert all(p.grad is None for p in model.backbone.parameters())


@pytest.mark.slow
def test_training_evaluation_and_pictures(repository, tmp_path):
    """Twelve iterations bring the angle down; all by the commands of the README."""

    def run(*argv):
        done = subprocess.run(
            [sys.executable, *map(str, argv)], cwd=repository, env=dict(os.environ),
            capture_output=True, text=True, timeout=500,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    config = 'configs/normals/shapes.py'
    work = tmp_path / 'work'
    run('tools/train.py', config, '--work-dir', work, '--cfg-options', *FEW, *SHORT)
    (log,) = work.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    found = [row['normals.loss_angle'] for row in rows if 'normals.loss_angle' in row]
    assert len(found) == 7 and min(found[-2:]) < 0.8 * found[0]
    assert all(np.isfinite(row['decode.loss_silog']) for row in rows if 'loss' in row)

    checkpoint, out = work / 'iter_12.pth', tmp_path / 'out'
    argv = [config, checkpoint, '--work-dir', tmp_path / 'test', '--out', out]
    run('tools/test.py', *argv, '--cfg-options', *FEW)
    (results,) = (tmp_path / 'test').glob('*/*.json')
    scores = json.loads(results.read_text())
    assert 0 < scores['normals/mean'] < 90 and scores['normals/within_30'] > 0.1
    assert scores['depth/rmse'] > 0
    assert len([*out.glob('*.normals.png')]) == 4 and len([*out.glob('*.png')]) == 8

    Image.fromarray(generate(1, size=(48, 64)).image).save(tmp_path / 'photo.png')
    argv = [tmp_path / 'photo.png', '--config', config, '--checkpoint', checkpoint]
    run('-m', 'mmseg_siglip', 'depth', *argv, '--normals', '--out', tmp_path / 'depths')
    assert Image.open(tmp_path / 'depths' / 'photo.png.normals.png').size == (64, 48)
