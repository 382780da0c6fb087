from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub

from mmseg_siglip.engine import CheckpointHook, Runner, checkpoint_hook
from mmseg_siglip.engine.checkpoint_hook import AtomicBackend
from mmseg_siglip.weights.checkpoint import is_whole, load_checkpoint_file, newest_checkpoint


def train(config, folder, options):
    cfg = Config.fromfile(config)
    cfg.work_dir = str(folder)
    cfg.experiment_name = f'{config.stem}-{folder.name}-{time.monotonic_ns()}'
    cfg.merge_from_dict(options)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


SURVIVORS = dict(
    in_half_a_file=4,
    before_the_flush=4,
    before_the_rename=4,
    before_the_pointer=6,
    before_the_removal=6,
)
NAN, INF = float('nan'), float('inf')
KEEP_ONE = {'default_hooks.checkpoint.max_keep_ckpts': 1}


def test_a_kill_during_a_save_loses_one_interval_at_most(tiny_config, tmp_path, repository):
    script = repository / 'tests' / 'engine' / 'sabotage.py'
    command = [sys.executable, str(script), str(tiny_config), str(tmp_path / 'runs'), *SURVIVORS]
    environment = dict(os.environ, PYTHONPATH=str(repository))
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stderr[-3000:]
    for point, survivor in SURVIVORS.items():
        resume_after_the_kill(tiny_config, tmp_path / 'runs' / point, survivor)


def resume_after_the_kill(tiny_config, folder, survivor):
    assert newest_checkpoint(folder)[0] == folder / f'iter_{survivor}.pth'
    rest = train(tiny_config, folder, dict(resume=True, **KEEP_ONE))
    assert rest.iter == 8
    assert f'iter_{survivor}.pth' in next(
        line
        for log in folder.glob('*/*.log')
        for line in log.read_text().splitlines()
        if 'the newest whole checkpoint' in line
    )
    assert newest_checkpoint(folder) == (folder / 'iter_8.pth', [])


def test_a_damaged_newest_file_is_passed_over_and_named(tiny_config, tmp_path):
    folder = tmp_path / 'run'
    train(tiny_config, folder, {})
    assert (folder / 'last_checkpoint').read_text() == str(folder / 'iter_8.pth')
    content = (folder / 'iter_8.pth').read_bytes()
    (folder / 'iter_8.pth').write_bytes(content[: len(content) // 2])
    (folder / 'last_checkpoint').write_text('')
    assert train(tiny_config, folder, dict(resume=True)).iter == 8
    log = ''.join(file.read_text() for file in folder.glob('*/*.log'))
    assert f'{folder / "iter_8.pth"} is damaged and passed over' in log
    assert f'Resuming from {folder / "iter_6.pth"}' in log
    assert is_whole(folder / 'iter_8.pth')


def test_nothing_to_resume_starts_and_says_so(tiny_config, tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir()
    (folder / 'last_checkpoint').write_text('')
    assert train(tiny_config, folder, dict(resume=True)).iter == 8
    log = ''.join(file.read_text() for file in folder.glob('*/*.log'))
    assert f'There is nothing to resume in {folder}: starting' in log


def test_the_best_checkpoint_is_replaced_after_the_new_one_is_written(tiny_config, tmp_path):
    folder = tmp_path / 'run'
    options = {
        'default_hooks.checkpoint.save_best': 'mIoU',
        'train_cfg.val_interval': 2,
        'train_cfg.max_iters': 8,
    }
    runner = train(tiny_config, folder, options)
    best = list(folder.glob('best_*.pth'))
    assert [str(file) for file in best] == [runner.message_hub.get_info('best_ckpt')]
    assert 'optimizer' not in load_checkpoint_file(best[0])
    assert newest_checkpoint(folder)[0] == folder / 'iter_8.pth'


def test_a_removal_is_kept_back_when_the_save_fails(tmp_path):
    (tmp_path / 'old').touch()
    backend = AtomicBackend()
    with pytest.raises(OSError, match='disk full'), backend.removals_last():
        backend.remove(tmp_path / 'old')
        raise OSError('disk full')
    assert (tmp_path / 'old').exists()
    with backend.removals_last():
        backend.remove(tmp_path / 'old')
        assert (tmp_path / 'old').exists()
    assert not (tmp_path / 'old').exists()


@pytest.mark.parametrize('key', ['backend_args', 'file_client_args'])
def test_only_other_storage_is_refused(tiny_config, tmp_path, key):
    def options(backend):
        return {f'default_hooks.checkpoint.{key}': dict(backend=backend), 'train_cfg.max_iters': 2}

    with pytest.raises(ValueError, match='writes to local disks only'):
        train(tiny_config, tmp_path / 'run', options('petrel'))
    for backend in ('local', 'disk') if key == 'backend_args' else ('disk',):
        train(tiny_config, tmp_path / backend, options(backend))
        assert is_whole(tmp_path / backend / 'iter_2.pth')


@pytest.fixture
def resume_with(tiny_config, tmp_path):
    """A function that goes on from a checkpoint whose ``runtime_info`` is changed, in a new folder.

    Returns the folder, and what the log says was left out.
    """
    options = {
        'default_hooks.checkpoint.save_best': 'mIoU',
        'train_cfg.val_interval': 1,
        'train_cfg.max_iters': 4,
        **KEEP_ONE,
    }
    train(tiny_config, tmp_path / 'run', {**options, 'train_cfg.max_iters': 2})

    def resume(**changes):
        checkpoint = load_checkpoint_file(tmp_path / 'run' / 'iter_2.pth')
        hub = checkpoint['message_hub']
        hub['runtime_info'].update(changes)
        hub['resumed_keys'].update(dict.fromkeys(changes, True))
        torch.save(checkpoint, tmp_path / 'evil.pth')
        folder = tmp_path / 'new'
        folder.mkdir(exist_ok=True)
        (folder / 'iter_').mkdir(exist_ok=True)
        given = dict(resume=True, load_from=str(tmp_path / 'evil.pth'))
        assert train(tiny_config, folder, options | given).iter == 4
        log = ''.join(file.read_text() for file in folder.glob('*/*.log'))
        return [line for line in log.splitlines() if 'which is nothing of' in line]

    return resume


def test_a_checkpoint_names_no_file_to_remove(resume_with, tmp_path):
    """Neither as the best one so far, nor as one of those to keep."""
    victim = tmp_path / 'victim'
    victim.mkdir()
    for name in ('thesis.tex', 'best_mIoU_iter_1.pth', 'a.pth'):
        (victim / name).write_text('precious')
    keep = ['/../../victim/a', '/../../victim', 2, 3]
    for best in (victim, victim / 'thesis.tex', victim / 'best_mIoU_iter_1.pth'):
        dropped = resume_with(best_ckpt=str(best), best_score=-1.0, keep_ckpt_ids=keep)
        assert len(list(victim.iterdir())) == 3
    assert sum('best_ckpt is' in line for line in dropped) == 3
    assert sum('keep_ckpt_ids is' in line for line in dropped) == 3
    assert (tmp_path / 'new' / 'iter_').is_dir()
    assert list((tmp_path / 'new').glob('best_mIoU_iter_*.pth'))


def test_the_best_of_a_run_that_was_branched_stays(resume_with, tmp_path):
    (best,) = (tmp_path / 'run').glob('best_*.pth')
    resume_with(best_score=-1.0)
    assert best.exists() and list((tmp_path / 'new').glob('best_*.pth'))


def test_a_score_that_is_not_finite_is_never_the_best(tmp_path, monkeypatch):
    """By either rule, as one of several, or as the first that there is."""
    saved, warned = [], []
    runner = SimpleNamespace(
        work_dir=str(tmp_path / 'run'),
        iter=4,
        epoch=0,
        hooks=[],
        model=torch.nn.Linear(1, 1),
        message_hub=MessageHub('never the best'),
        logger=SimpleNamespace(info=str, warning=warned.append),
        save_checkpoint=lambda out_dir, filename, **_: saved.append(filename),
    )
    scores = dict(nan=NAN, inf=INF, less=-INF, none=None, tensor=torch.tensor(NAN), good=0.5)
    for key in scores:
        for rule in ('less', 'greater'):
            hook = CheckpointHook(by_epoch=False, save_best=key, rule=rule)
            runner.message_hub.runtime_info.clear()
            hook.before_train(runner)
            hook.after_val_epoch(runner, scores)
    assert saved == ['best_good_iter_4.pth'] * 2
    assert warned[0] == 'nan is nan, which is not the best.' and len(warned) == 10
    saved.clear()
    hook = CheckpointHook(by_epoch=False, save_best='auto', rule='greater')
    hook.before_train(runner)
    hook.after_val_epoch(runner, scores)
    hook = CheckpointHook(by_epoch=False, save_best=['nan', 'good'], rule=['less', 'greater'])
    hook.before_train(runner)
    hook.after_val_epoch(runner, scores)
    assert saved == ['best_good_iter_4.pth']
    hook.published_keys, published = ['state_dict'], []
    monkeypatch.setattr(checkpoint_hook, 'publish', lambda *given: published.append(given))
    hook.after_train(runner)
    assert published == [(str(tmp_path / 'run' / 'best_good_iter_4.pth'), ['state_dict'])]


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    """A step can break them whose loss was finite; what was saved before stays."""
    model, saved, warned = torch.nn.Linear(1, 1), [], []
    runner = SimpleNamespace(
        work_dir=str(tmp_path),
        iter=4,
        epoch=0,
        hooks=[],
        model=model,
        message_hub=MessageHub('not saved'),
        logger=SimpleNamespace(info=str, warning=warned.append),
        save_checkpoint=lambda out_dir, filename, **_: saved.append(filename),
    )
    hook = CheckpointHook(interval=1, by_epoch=False, save_best='mIoU', max_keep_ckpts=1)
    hook.before_train(runner)
    for value in (1.0, INF, NAN, 2.0):
        model.weight.data.fill_(value)
        hook.after_train_iter(runner, runner.iter)
        runner.iter += 1
        hook.after_val_epoch(runner, dict(mIoU=runner.iter))
    names = ['iter_5.pth', 'best_mIoU_iter_5.pth', 'iter_5.pth']
    assert saved == [*names, *(name.replace('5', '8') for name in names)]
    assert warned == ['No checkpoint is saved: weight is not finite.'] * 2


def test_a_score_that_there_is_not(tmp_path):
    runner = SimpleNamespace(work_dir=str(tmp_path), hooks=[], message_hub=MessageHub('none'))
    runner.logger, runner.model = SimpleNamespace(info=str), torch.nn.Linear(1, 1)
    hook = CheckpointHook(save_best='mIoU')
    hook.before_train(runner)
    with pytest.raises(ValueError, match='save_best: expected one of a, b, found mIoU'):
        hook.after_val_epoch(runner, dict(a=1, b=2))


@pytest.mark.slow
def test_a_real_kill_at_any_moment(tiny_config, tmp_path, repository):
    folder = tmp_path / 'run'
    command = [sys.executable, str(repository / 'tools' / 'train.py'), str(tiny_config)]
    command += ['--work-dir', str(folder), '--resume', '--cfg-options']
    command += ['default_hooks.checkpoint.interval=1', 'train_cfg.max_iters=100000']
    environment = dict(os.environ, PYTHONPATH=str(repository))
    with open(tmp_path / 'output', 'wb') as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    deadline = time.monotonic() + 120
    while not Path(folder, 'iter_3.pth').exists():
        assert process.poll() is None, (tmp_path / 'output').read_text()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    step = load_checkpoint_file(newest_checkpoint(folder)[0])['meta']['iter']
    assert step >= 3
    options = dict(resume=True, train_cfg=dict(max_iters=step + 2))
    assert train(tiny_config, folder, options).iter == step + 2
