"""Frozen to the bit until the step, then trained; stages by config; refusals."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_siglip.engine import Runner, UnfreezeBackboneHook
from mmseg_siglip.engine.unfreeze_hook import backbone_groups

STEP, END = 2, 4


@pytest.fixture
def train(repository, tmp_path, monkeypatch):
    """Train a shipped config on tiny scenes for a few iterations, watching the backbone."""
    monkeypatch.chdir(tmp_path)
    init_default_scope('mmseg_siglip')

    def train(name, *, hooks=(), end=END, work_dir='run', **options):
        config = Config.fromfile(repository / f'configs/dpt/{name}.py')
        config.merge_from_dict(
            {
                'work_dir': str(tmp_path / work_dir),
                'train_dataloader.batch_size': 1,
                'train_dataloader.num_workers': 0,
                'train_dataloader.persistent_workers': False,
                'train_dataloader.dataset.size': (32, 32),
                'train_dataloader.dataset.num_scenes': 8,
                'train_cfg.max_iters': end,
                'default_hooks.checkpoint.interval': 1,
                'default_hooks.checkpoint.max_keep_ckpts': -1,
                'optim_wrapper.type': 'OptimWrapper',
                'log_level': 'WARNING',
                **options,
            }
        )
        config.optim_wrapper.pop('dtype', None)
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
        config.param_scheduler = [dict(type='PolyLR', power=1.0, end=END, by_epoch=False)]
        config.experiment_name = f'{name}_{work_dir}'
        config.randomness = dict(seed=0, deterministic=True)
        if hooks:
            config.custom_hooks = list(hooks)
        runner = Runner.from_cfg(config)
        start = copy.deepcopy(runner.model.state_dict())
        runner.train()
        return runner, start

    return train


def saved(runner, iteration):
    return torch.load(f'{runner.work_dir}/iter_{iteration}.pth')


def moved(state, start, prefix):
    return any(
        not torch.equal(value, start[name])
        for name, value in state.items()
        if name.startswith(prefix)
    )


def test_two_stages(train, tmp_path):
    """The first leaves the backbone as it was, to the bit; the second moves it."""
    first, start = train('shapes_frozen', work_dir='first')
    end = saved(first, END)['state_dict']
    assert not moved(end, start, 'backbone') and moved(end, start, 'decode_head')
    assert not first.model.backbone.training
    load = str(tmp_path / 'first' / f'iter_{END}.pth')
    second, _ = train('shapes_finetune', work_dir='second', load_from=load)
    assert moved(saved(second, 1)['state_dict'], end, 'backbone')
    rates = {group['initial_lr'] for group in second.optim_wrapper.optimizer.param_groups}
    assert len(rates) == 2 and max(rates) == pytest.approx(10 * min(rates))


def test_lora_moves_adapters_alone(train):
    runner, start = train('shapes_lora')
    end = saved(runner, END)['state_dict']
    changed = {name for name in end if not torch.equal(end[name], start[name])}
    backbone = {name for name in changed if name.startswith('backbone')}
    assert backbone and all('lora_' in name for name in backbone)


def test_unfreezing_at_a_step(train):
    hook = dict(type='UnfreezeBackboneHook', step=STEP)
    runner, start = train('shapes_unfreeze', hooks=[hook])
    before, after = saved(runner, STEP), saved(runner, STEP + 1)
    assert not moved(before['state_dict'], start, 'backbone')
    assert moved(before['state_dict'], start, 'decode_head')
    assert moved(after['state_dict'], start, 'backbone')
    for group in before['optimizer']['param_groups']:  # the schedule goes on as if nothing were
        assert group['lr'] == pytest.approx(group['initial_lr'] * (1 - STEP / (END - 1)))
    assert runner.model.backbone.training


def test_the_frozen_part_equals_training_the_decoder_alone(train):
    """Gradient clipping must not see the backbone's gradients."""
    hook = dict(type='UnfreezeBackboneHook', step=STEP)
    clip = {'optim_wrapper.clip_grad.max_norm': 1e-3}
    held, start = train('shapes_unfreeze', hooks=[hook], work_dir='held', **clip)
    alone, other = train('shapes_frozen', work_dir='alone', **clip)
    assert not moved(start, other, 'decode_head')
    a, b = saved(held, STEP)['state_dict'], saved(alone, STEP)['state_dict']
    for name in b:
        torch.testing.assert_close(a[name], b[name], atol=1e-6, rtol=1e-5)


def test_resuming_at_and_before_the_step_changes_nothing(train, tmp_path):
    hook = dict(type='UnfreezeBackboneHook', step=STEP)
    whole, _ = train('shapes_unfreeze', hooks=[hook], work_dir='whole')
    for at in (1, STEP):
        options = dict(load_from=str(tmp_path / f'whole/iter_{at}.pth'), resume=True)
        again, _ = train('shapes_unfreeze', hooks=[hook], work_dir=f'again{at}', **options)
        found = saved(again, END)['state_dict']
        for name, value in saved(whole, END)['state_dict'].items():
            assert torch.equal(found[name], value), (at, name)


def test_a_backbone_that_cannot_train_is_refused(train):
    hook = dict(type='UnfreezeBackboneHook', step=STEP)
    with pytest.raises(ValueError, match='expected a backbone that requires gradients'):
        train('shapes_frozen', hooks=[hook], work_dir='frozen')
    a, b, c = (torch.nn.Parameter(torch.zeros(1)) for _ in range(3))
    with pytest.raises(ValueError, match='1 parameters of backbone are not in the optimiser'):
        backbone_groups(torch.optim.SGD([a], lr=1), [a, b], 'backbone')
    with pytest.raises(ValueError, match='shares a parameter group .*lr_mult=0.1'):
        backbone_groups(torch.optim.SGD([a, b], lr=1), [a], 'backbone')
    groups = backbone_groups(
        torch.optim.SGD([dict(params=[a, b]), dict(params=[c])], lr=1), [a, b], 'backbone'
    )
    assert [len(group['params']) for group in groups] == [2]
    with pytest.raises(ValueError, match='step: expected 1 or more, found 0'):
        UnfreezeBackboneHook(step=0)


@pytest.mark.slow
def test_two_processes_hold_and_free_the_backbone_together(repository, tmp_path):
    options = {
        'train_dataloader.batch_size': 1,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'train_dataloader.dataset.size': '(32,32)',
        'train_dataloader.dataset.num_scenes': 8,
        'train_cfg.max_iters': STEP + 1,
        'train_cfg.val_interval': 100,
        'custom_hooks.0.step': STEP,
        'default_hooks.checkpoint.interval': 1,
        'default_hooks.checkpoint.max_keep_ckpts': -1,
    }
    subprocess.run(
        [
            *('bash', str(repository / 'tools/dist_train.sh')),
            *(str(repository / 'configs/dpt/shapes_unfreeze.py'), '2'),
            *('--work-dir', str(tmp_path)),
            *('--cfg-options', *(f'{name}={value}' for name, value in options.items())),
        ],
        env=dict(os.environ, PYTHON=sys.executable, OMP_NUM_THREADS='1'),
        check=True,
        capture_output=True,
        timeout=300,
    )
    first, held, free = (
        torch.load(tmp_path / f'iter_{i}.pth')['state_dict'] for i in (1, STEP, STEP + 1)
    )
    assert not moved(held, first, 'backbone') and moved(held, first, 'decode_head')
    assert moved(free, held, 'backbone')
