from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler import CosineAnnealingLR, LinearLR, MultiStepLR
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from mmseg_siglip.engine.rates import ends_apart, kept_rates, rules_of_nothing


def wrapper(lr=0.1, decay=0.01):
    parameter = nn.Parameter(torch.ones(1))
    return OptimWrapper(torch.optim.AdamW([parameter], lr=lr, weight_decay=decay))


@pytest.fixture
def iterations(monkeypatch):
    monkeypatch.setattr(IterBasedTrainLoop, '__init__', lambda self: None)
    loop = IterBasedTrainLoop()
    loop._max_iters = 10
    return loop


def cosine(end, own=None, **options):
    return CosineAnnealingLR(own or wrapper(), begin=0, end=end, by_epoch=False, **options)


def test_a_schedule_that_ends_with_the_training(iterations):
    own = wrapper()
    warm_up = LinearLR(own, start_factor=0.1, end=3, by_epoch=False)
    steps = MultiStepLR(own, milestones=[5], by_epoch=False)
    assert ends_apart([warm_up, steps, cosine(10)], iterations) == []
    assert ends_apart(None, iterations) == []


def test_schedules_of_another_length_are_told(iterations):
    (short,) = ends_apart([cosine(5)], iterations)
    assert 'CosineAnnealingLR ends at iter 5, the training at 10 (train_cfg.max_iters)' in short
    assert 'the rates stand still' in short
    (long,) = ends_apart(dict(a=[cosine(20)]), iterations)
    assert 'ends at iter 20' in long and 'do not come to their end' in long


def test_epochs_in_a_training_of_iterations(iterations):
    schedule = CosineAnnealingLR(wrapper(), T_max=5, by_epoch=True)
    with pytest.raises(ValueError, match='expected by_epoch=False of CosineAnnealingLR'):
        ends_apart([schedule], iterations)
    epochs = SimpleNamespace(max_epochs=10, max_iters=100)
    assert ends_apart([schedule], epochs) == []


def test_what_a_checkpoint_has_goes_before_the_config():
    def saved(lr, end, decay=0.01, steps=2):
        own = wrapper(lr, decay)
        schedule = cosine(end, own)
        for _ in range(steps):
            own.step()
            schedule.step()
        return own, [schedule], dict(optimizer=own.state_dict(), param_schedulers=states(schedule))

    def states(schedule):
        return [schedule.state_dict()]

    own, schedules, _ = saved(0.1, 10, steps=0)
    assert kept_rates(saved(0.1, 10)[2], own, schedules) == ''
    assert kept_rates(saved(0.2, 10)[2], own, schedules) == 'lr 0.2 (config: 0.1)'
    assert kept_rates(saved(0.1, 10, 0.5)[2], own, schedules) == 'weight_decay 0.5 (config: 0.01)'
    told = kept_rates(saved(0.1, 8)[2], own, schedules)
    assert 'CosineAnnealingLR.end 8 (config: 10)' in told
    assert kept_rates(dict(optimizer=3, param_schedulers=[None]), own, schedules) == ''


def test_rules_for_names():
    model = nn.ModuleDict(dict(backbone=nn.Linear(1, 1)))
    keys = dict(backbone=dict(lr_mult=0.1), bakcbone=dict(lr_mult=0.1))
    rules = dict(norm_decay_mult=0.0, custom_keys=keys)
    assert rules_of_nothing(dict(paramwise_cfg=rules), model) == ['bakcbone']
    assert rules_of_nothing(dict(), model) == []
    unknown = dict(paramwise_cfg=dict(normdecay_mult=0.0))
    with pytest.raises(ValueError, match='paramwise_cfg: expected .*, found normdecay_mult'):
        rules_of_nothing(unknown, model)
    assert rules_of_nothing(dict(unknown, constructor='LayerDecay'), model) == []
