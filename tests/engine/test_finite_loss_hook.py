from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from commands import command
from mmengine.config import Config
from mmengine.logging import MessageHub

from mmseg_siglip.engine import FiniteLossHook, Runner
from mmseg_siglip.engine.finite_loss_hook import not_finite, what_is_lost
from mmseg_siglip.weights.checkpoint import load_checkpoint_file

NAN, INF = float('nan'), float('inf')


@pytest.fixture
def feed():
    """A function that gives a hook one loss after the other, and the runner that it sees."""
    hook = FiniteLossHook(patience=3)
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    runner = SimpleNamespace(iter=0, hooks=[hook], message_hub=MessageHub('feed'), model=model)
    hook.before_train(runner)

    def give(*losses):
        for loss in losses:
            outputs = {'loss': torch.tensor(loss), 'aux.loss_ce': loss, 'acc_seg': NAN}
            hook.after_train_iter(runner, runner.iter, outputs=outputs)
            runner.iter += 1

    give.hook, give.runner = hook, runner
    return give


def test_several_in_a_row_end_a_training(feed):
    feed(1.0, NAN, INF, 2.0, NAN, -INF)
    assert what_is_lost(feed.runner) == 'the loss'
    feed.runner.message_hub.update_info('last_ckpt', 'run/iter_4.pth')
    message = (
        'the training stops: aux.loss_ce not finite since iteration 5, 3 times in a row; '
        'run/iter_4.pth is from before. Lower optim_wrapper.optimizer.lr, set '
    )
    with pytest.raises(ValueError, match=message):
        feed(NAN)


def test_a_training_does_not_end_well_on_a_loss_that_is_not_finite(feed):
    feed(1.0, 1.0, NAN)
    with pytest.raises(ValueError, match='since iteration 3, 1 times in a row; no checkpoint is'):
        feed.hook.after_train(feed.runner)
    feed(1.0)
    feed.hook.after_train(feed.runner)
    assert what_is_lost(feed.runner) == ''


def test_a_last_step_may_leave_weights_that_are_not_finite(feed):
    """With a loss from before, which was."""
    feed(1.0)
    feed.runner.model[0].weight.data[:] = NAN
    feed.runner.model[0].requires_grad_(False)
    feed.hook.after_train(feed.runner)  # frozen weights were no step of the training
    feed.runner.model[1].weight.data[0, 0] = INF
    assert what_is_lost(feed.runner) == '1.weight'
    with pytest.raises(ValueError, match='the weights 1.weight not finite since iteration 1, 1'):
        feed.hook.after_train(feed.runner)


def test_names():
    assert not_finite({}) == not_finite(dict(loss=torch.ones(()))) == []
    assert not_finite(dict(loss=torch.tensor(INF), loss_a=1e38, loss_b=3e38)) == ['loss']
    assert not_finite(dict(gan_loss=NAN, acc=NAN)) == ['gan_loss']
    assert not_finite(dict(loss=torch.tensor(NAN, requires_grad=True))) == ['loss']
    with pytest.raises(ValueError, match='patience: expected 1 or more, found 0'):
        FiniteLossHook(0)


def test_the_command_says_so_and_keeps_what_was_whole(tiny_config, tmp_path, capsys, monkeypatch):
    """A learning rate that blows up: weights that are not finite are neither saved nor the best."""
    monkeypatch.delenv('RANK', raising=False)
    folder = tmp_path / 'run'
    text = tiny_config.read_text() + (
        "custom_imports = dict(imports=['mmseg_siglip'])\n"
        "param_scheduler = [dict(type='MultiStepLR', milestones=[2], gamma=1e30, by_epoch=False)]\n"
    )
    tiny_config.write_text(text)
    argv = [str(tiny_config), '--work-dir', str(folder), '--cfg-options']
    argv += ['default_hooks.checkpoint.interval=1', 'default_hooks.checkpoint.max_keep_ckpts=1']
    argv += ['default_hooks.checkpoint.save_best=mIoU', 'train_cfg.max_iters=30']
    argv += ['train_cfg.val_interval=1', 'default_hooks.finite_loss.type=FiniteLossHook']
    argv += ['default_hooks.finite_loss.patience=4']
    assert command('train')(argv) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error')]
    assert 'the training stops: decode.loss_ce not finite since iteration ' in line
    (kept,) = folder.glob('iter_*.pth')
    assert f'{kept} is from before' in line
    for file in folder.glob('*.pth'):
        weights = load_checkpoint_file(file)['state_dict']
        assert all(torch.isfinite(value).all() for value in weights.values()), file


def test_a_config_may_do_without(tiny_config, tmp_path):
    cfg = Config.fromfile(tiny_config)
    cfg.work_dir, cfg.experiment_name = str(tmp_path / 'run'), tiny_config.stem
    cfg.default_hooks.finite_loss = None
    assert not any(isinstance(hook, FiniteLossHook) for hook in Runner.from_cfg(cfg).hooks)
