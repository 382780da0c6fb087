from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mmengine.config import Config

from mmseg_siglip.engine import Runner
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


def test_other_storage_is_refused(tiny_config, tmp_path):
    options = {'default_hooks.checkpoint.backend_args': dict(backend='petrel')}
    with pytest.raises(ValueError, match='writes to local disks only'):
        train(tiny_config, tmp_path / 'run', options)


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
