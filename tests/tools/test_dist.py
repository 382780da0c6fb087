from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_siglip.registry import MODELS

METRICS = ('aAcc', 'mIoU', 'mAcc')


def shell(repository, *argv, **variables):
    environment = dict(os.environ, PYTHON=sys.executable, **variables)
    environment.pop('RANK', None)
    command = [str(repository / 'tools' / argv[0]), *map(str, argv[1:])]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)


def metrics(folder):
    (result,) = [
        file for file in Path(folder).glob('*/*.json') if not file.name.startswith('config')
    ]
    values = json.loads(result.read_text())
    return {name: values[name] for name in METRICS}


@pytest.fixture
def weights(tiny_config, tmp_path):
    torch.manual_seed(0)
    init_default_scope('mmseg_siglip')
    model = MODELS.build(Config.fromfile(tiny_config).model)
    path = tmp_path / 'my weights.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


@pytest.mark.slow
def test_two_processes_give_the_metrics_of_one(repository, tiny_config, weights, tmp_path):
    """Seven pictures on two processes: the sampler adds an eighth, which must not be counted."""
    found = {}
    for processes in (1, 2):
        folder = tmp_path / f'run {processes}'
        arguments = ['--work-dir', folder, '--cfg-options', "env_cfg.dist_cfg.backend='nccl'"]
        result = shell(repository, 'dist_test.sh', tiny_config, weights, processes, *arguments)
        assert result.returncode == 0, result.stderr[-3000:]
        found[processes] = metrics(folder)
    assert found[1] == found[2]
    assert 0 < found[1]['mIoU'] < 100


@pytest.mark.slow
def test_what_two_processes_predicted_one_goes_on_from(repository, tiny_config, weights, tmp_path):
    def test(processes, work, *more):
        arguments = ['--out', tmp_path / 'out', '--work-dir', tmp_path / work, *more]
        result = shell(repository, 'dist_test.sh', tiny_config, weights, processes, *arguments)
        assert result.returncode == 0, result.stderr[-3000:]
        return metrics(tmp_path / work)

    whole = test(2, 'two')
    journals = sorted((tmp_path / 'out/.evaluation/journal').glob('*'))
    assert sum(len(path.read_bytes().splitlines()) for path in journals) == 7
    journals[1].unlink()
    assert test(1, 'one', '--continue') == whole
    (log,) = (tmp_path / 'one').glob('*/*.log')
    assert '4 of 7 images were predicted already' in log.read_text()


@pytest.mark.slow
def test_two_processes_train_one_model(repository, tiny_config, tmp_path):
    folder = tmp_path / 'run'
    result = shell(repository, 'dist_train.sh', tiny_config, 2, '--work-dir', folder)
    assert result.returncode == 0, result.stderr[-3000:]
    assert (folder / 'iter_8.pth').is_file()


@pytest.mark.slow
def test_a_failing_process_fails_the_script(repository, tiny_config):
    result = shell(repository, 'dist_test.sh', tiny_config, 'none.pth', 1)
    assert result.returncode != 0
    assert 'error: (rank 0) checkpoint not found: there is no file none.pth.' in result.stderr
