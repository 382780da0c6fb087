"""A depth training killed with -9 and resumed ends at the weights of one that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

OPTIONS = [
    'train_dataloader.batch_size=2',
    'train_dataloader.dataset.size=(32,48)',
    'train_dataloader.dataset.num_scenes=32',
    'val_dataloader.dataset.num_scenes=2',
    'train_cfg.max_iters=12',
    'default_hooks.checkpoint.interval=2',
    'custom_hooks.0.step=6',
    'randomness.seed=7',
    'randomness.deterministic=True',
]


@pytest.mark.slow
def test_killed_and_resumed(repository, tmp_path):
    def start(folder, *extra):
        command = [sys.executable, 'tools/train.py', 'configs/dpt/shapes_unfreeze.py', *extra]
        command += ['--work-dir', str(tmp_path / folder), '--cfg-options', *OPTIONS]
        return subprocess.Popen(
            command, cwd=repository, env=dict(os.environ), stdout=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def weights(folder):
        return torch.load(tmp_path / folder / 'iter_12.pth')['state_dict']

    assert start('whole').wait(500) == 0
    process = start('killed')
    deadline = time.monotonic() + 500
    while not (tmp_path / 'killed' / 'iter_4.pth').exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert not (tmp_path / 'killed' / 'iter_12.pth').exists()
    assert start('killed', '--resume').wait(500) == 0
    whole, resumed = weights('whole'), weights('killed')
    assert set(whole) == set(resumed)
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name
