from __future__ import annotations

import inspect
from copy import deepcopy

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import scheduler
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from mmseg_siglip.engine.progress import (
    believe_own,
    check_progress,
    check_schedulers,
    history_of,
    is_best,
    require_dict,
)
from mmseg_siglip.weights.checkpoint import to_plain

HUB = dict(log_scalars={}, runtime_info={}, resumed_keys={})


@pytest.fixture
def iterations(monkeypatch):
    monkeypatch.setattr(IterBasedTrainLoop, '__init__', lambda self: None)
    loop = IterBasedTrainLoop()
    loop._max_iters, loop._max_epochs = 10, 1
    return loop


@pytest.fixture
def epochs(monkeypatch):
    monkeypatch.setattr(EpochBasedTrainLoop, '__init__', lambda self: None)
    loop = EpochBasedTrainLoop()
    loop._max_iters, loop._max_epochs = 10, 5
    return loop


def checkpoint(**meta):
    return dict(meta=dict(dict(epoch=0, iter=4, seed=3), **meta), message_hub=deepcopy(HUB))


def test_a_training_that_goes_on(iterations, epochs):
    check_progress(checkpoint(), iterations)
    check_progress(checkpoint(iter=10, seed=None), iterations)
    check_progress(checkpoint(epoch=5, iter=99), epochs)  # of smaller batches


@pytest.mark.parametrize(
    ('meta', 'message'),
    [
        (dict(iter=10**12), 'meta.iter within train_cfg.max_iters, which is 10, found 10{12}$'),
        (dict(iter=-1), 'meta.iter to be a number from 0, found -1'),
        (dict(iter=True), 'meta.iter to be a number from 0, found True'),
        (dict(iter='4'), "meta.iter to be a number from 0, found '4'"),
        (dict(epoch=None), 'meta.epoch to be a number from 0, found None'),
        (dict(seed='x'), "meta.seed to be a number from 0 below .*, found 'x'"),
        (dict(seed=2**32), 'meta.seed to be a number'),
    ],
)
def test_numbers_that_steer_loops(iterations, meta, message):
    with pytest.raises(ValueError, match=message):
        check_progress(checkpoint(**meta), iterations)


def test_epochs_beyond_the_end(epochs):
    with pytest.raises(ValueError, match='meta.epoch within train_cfg.max_epochs, which is 5'):
        check_progress(checkpoint(epoch=6), epochs)


@pytest.mark.parametrize('part', ['meta', 'message_hub'])
@pytest.mark.parametrize('value', [None, [], 'x'])
def test_what_is_no_training(iterations, part, value):
    with pytest.raises(ValueError, match=f'expected {part} in it'):
        check_progress(dict(checkpoint(), **{part: value}), iterations)
    found = checkpoint()
    found['message_hub']['runtime_info'] = value
    with pytest.raises(ValueError, match='message_hub.runtime_info to be a dict'):
        check_progress(found, iterations)
    with pytest.raises(ValueError, match='expected optimizer in it.* load_from takes the weights'):
        require_dict(checkpoint(), 'optimizer')


ARGUMENTS = dict(
    step_size=2, gamma=0.5, milestones=[2, 4], T_max=4, factor=0.5, start_factor=0.1, end_factor=1,
    power=1, periods=[2, 4], restart_weights=[1, 0.5], eta_max=1, eta_min=0.1, total_steps=9,
    monitor='loss', rule='less', param_name='lr',
)  # fmt: skip


def schedulers():
    """One of each of MMEngine's."""
    for name, kind in vars(scheduler).items():
        if not inspect.isclass(kind) or inspect.isabstract(kind) or not name.endswith('Scheduler'):
            continue
        if name == '_ParamScheduler':
            continue
        wanted = inspect.signature(kind).parameters
        given = {key: value for key, value in ARGUMENTS.items() if key in wanted}
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9)
        yield kind(optimizer, **given)


def test_states_of_every_scheduler_are_its_own():
    some = list(schedulers())
    assert len(some) >= 10
    states = to_plain([one.state_dict() for one in some])
    check_schedulers(states, some)
    check_schedulers(dict(a=states[:2], b=states[2:]), dict(a=some[:2], b=some[2:]))
    for one, state in zip(some, states, strict=True):
        one.load_state_dict(state)
        one.step() if not hasattr(one, 'monitor') else one.step(dict(loss=1.0))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda states: None, 'expected 1 param_schedulers, found none'),
        (lambda states: states * 2, 'expected 1 param_schedulers, found 2'),
        (lambda states: ['x'], 'expected the state of a StepParamScheduler'),
        (lambda states: [dict(states[0], _get_value=3)], 'expected the state of a StepParam'),
        (lambda states: [dict(states[0], step_size='2')], "step_size to be like 2, found '2'"),
        (lambda states: [dict(states[0], param_name=None)], "to be like 'lr', found None"),
    ],
)
def test_other_states_are_refused(change, message):
    one = next(one for one in schedulers() if type(one).__name__ == 'StepParamScheduler')
    with pytest.raises(ValueError, match=message):
        check_schedulers(change([one.state_dict()]), [one])
    with pytest.raises(ValueError, match='expected param_schedulers of a'):
        check_schedulers(change([one.state_dict()]), dict(a=[one]))


def test_histories():
    tensors = dict(values=torch.ones(3), counts=torch.ones(3), max_length=5)
    assert isinstance(history_of(tensors, 'loss'), HistoryBuffer)
    odd = [None, [], dict(tensors, counts=torch.ones(2)), dict(tensors, values=torch.ones(3, 1))]
    odd += [dict(tensors, max_length='x'), dict(tensors, max_length=0), dict(values=1)]
    for packed in odd:
        with pytest.raises(ValueError, match='expected the history of loss in message_hub'):
            history_of(packed, 'loss')


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir()
    for name in ('best_mIoU_iter_2.pth', 'iter_4.pth', 'cfg.py', 'best_notes.txt'):
        (folder / name).touch()
    (folder / 'best_mIoU_iter_6.pth').mkdir()
    (tmp_path / 'best_mIoU_iter_2.pth').touch()
    return folder


def test_a_copy_believes_its_own_files(run):
    info = dict(
        best_ckpt='/original/best_mIoU_iter_2.pth',
        best_score=0.5,
        last_ckpt='/original/iter_4.pth',
        keep_ckpt_ids=[4, 2, 2],
        iter=4,
    )
    assert believe_own(info, run, 'iter_{}.pth') == []
    assert info == dict(
        best_ckpt=str(run / 'best_mIoU_iter_2.pth'),
        best_score=0.5,
        last_ckpt=str(run / 'iter_4.pth'),
        keep_ckpt_ids=[2, 4],
        iter=4,
    )


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('best_ckpt', '/home/user/thesis.tex'),
        ('best_ckpt', '../best_mIoU_iter_9.pth'),
        ('best_ckpt', 'cfg.py'),
        ('best_ckpt', 'iter_4.pth'),
        ('best_ckpt', 'best_notes.txt'),
        ('best_ckpt', 'best_mIoU_iter_6.pth'),  # a folder
        ('best_ckpt', '..'),
        ('best_ckpt', 'best_mIoU_iter_2.pth\0'),
        ('best_ckpt', 7),
        ('best_ckpt_depth/abs_rel', '/home/user'),
        ('best_score', float('nan')),
        ('best_score_mIoU', 'x'),
        ('keep_ckpt_ids', ['/../../victim', 4]),
        ('keep_ckpt_ids', [True]),
        ('keep_ckpt_ids', [-1]),
        ('keep_ckpt_ids', 'iter'),
    ],
)
def test_what_names_other_files_is_left_out(run, key, value):
    info = {key: value, 'iter': 4}
    (sentence,) = believe_own(info, run, 'iter_{}.pth')
    assert info == dict(iter=4)
    assert sentence == f'{key} is {value!r}, which is nothing of {run}: it is left out.'


def test_names_of_best_checkpoints():
    assert is_best('best_test_acc_epoch_5.pth', 'epoch_{}.pth')
    assert is_best('best_a_3.pth', '{}.pth')
    for name in ('best_iter_5.pth', 'best_acc_iter_x.pth', 'iter_5.pth', 'best_acc_iter_5.pth.py'):
        assert not is_best(name, 'iter_{}.pth'), name
