"""Every depth config names what exists and builds its model, on the shipped encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_siglip.cli.jobs.encoders import apply_encoder
from mmseg_siglip.models.lora import lora_layers
from mmseg_siglip.registry import DATASETS, HOOKS, METRICS, MODELS, TRANSFORMS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/dpt'
EVERY = sorted(path.stem for path in CONFIGS.glob('*.py'))
OTHERS = ['siglip_b16_512', 'siglip_so400m14_384', 'siglip2_l16_512', 'siglip2_so400m14_384']


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


def test_every_data_set_and_schedule_is_there():
    wanted = {f'{d}_{s}' for d in ('nyu', 'kitti', 'shapes', 'rgbd') for s in
              ('frozen', 'finetune', 'lora')}  # fmt: skip
    assert wanted <= set(EVERY)


@pytest.mark.parametrize('name', EVERY)
def test_builds(name):
    config = Config.fromfile(CONFIGS / f'{name}.py')
    assert len((CONFIGS / f'{name}.py').read_text().splitlines()) <= 20
    config.model.backbone.pretrained = 'tiny_siglip_shapes'
    model = MODELS.build(config.model)
    assert model.freeze_backbone == ('frozen' in name)
    trained = [n for n, p in model.backbone.named_parameters() if p.requires_grad]
    assert bool(trained) == ('frozen' not in name)
    assert bool(lora_layers(model.backbone)) == ('lora' in name)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        assert DATASETS.get(loader.dataset.type)
        for transform in loader.dataset.pipeline:
            assert TRANSFORMS.get(transform.type)
    metric = METRICS.build(config.test_evaluator)
    loss = model.decode_head.losses[0]
    assert loss.max_depth == model.decode_head.max_depth == metric.max_depth
    for hook in config.get('custom_hooks', ()):
        assert HOOKS.build(hook).step < config.train_cfg.max_iters
    assert config.param_scheduler[-1].end == config.train_cfg.max_iters


@pytest.mark.parametrize('name', EVERY)
def test_predictions_can_be_written(name, tmp_path):
    """As 16 bits, KITTI's in its own unit."""
    evaluator = Config.fromfile(CONFIGS / f'{name}.py').test_evaluator
    metric = METRICS.build(dict(evaluator, output_dir=str(tmp_path), format_only=True))
    far = torch.full((1, 2, 2), metric.max_depth)
    metric.process({}, [dict(img_path='a.png', pred_depth_map=dict(data=far))])
    metric.writers.finish()
    (written,) = tmp_path.glob('*.png')
    unit = 256 if 'kitti' in name else 1000
    assert (np.asarray(Image.open(written)) == metric.max_depth * unit).all()


@pytest.mark.parametrize('encoder', [None, *OTHERS])
@pytest.mark.parametrize('name', [name for name in EVERY if 'finetune' in name])
def test_the_second_stage_starts_where_the_first_ends(name, encoder):
    first_name = name.replace('finetune', 'frozen')
    second, first = (Config.fromfile(CONFIGS / f'{stage}.py') for stage in (name, first_name))
    folder = f'work_dirs/{first_name}'
    if encoder is not None:
        apply_encoder(first, encoder)
        apply_encoder(second, encoder)
        folder = first.work_dir
        assert encoder in folder and second.work_dir == folder.replace('frozen', 'finetune')
    assert second.load_from == f'{folder}/iter_{first.train_cfg.max_iters}.pth'
    assert second.model.backbone == first.model.backbone
    assert second.model.decode_head == first.model.decode_head
    assert second.optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult == 0.1
