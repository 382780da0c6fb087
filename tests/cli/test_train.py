from __future__ import annotations

from itertools import count

import pytest
import torch
from commands import command

main = command('train')


@pytest.fixture
def train(tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('RANK', raising=False)

    numbers = count()  # the Runner's own names are the same within a second

    def run(*argv):
        capsys.readouterr()
        options = ['--cfg-options', 'train_cfg.max_iters=4', f'experiment_name=run{next(numbers)}']
        status = main([str(tiny_config), *options, *map(str, argv)])
        return status, capsys.readouterr().err.splitlines()

    run.folder = tmp_path / 'work_dirs' / tiny_config.stem
    return run


def log(folder):
    return ''.join(file.read_text() for file in folder.glob('*/*.log'))


def test_training_and_resuming(train):
    assert train('--resume')[0] == 0
    assert sorted(file.name for file in train.folder.glob('*.pth')) == ['iter_2.pth', 'iter_4.pth']
    (train.folder / 'iter_4.pth').unlink()
    assert train('--resume')[0] == 0
    assert f'Resuming from {train.folder / "iter_2.pth"}' in log(train.folder)
    (train.folder / 'iter_4.pth').unlink()
    assert train('--resume', train.folder / 'iter_2.pth', '--work-dir', 'other')[0] == 0
    assert 'resumed epoch: 0, iter: 2' in log(train.folder.parents[1] / 'other')


def test_a_first_run_with_resume_keeps_the_weights_to_start_from(train, tmp_path, tiny_config):
    assert train()[0] == 0
    start = tmp_path / 'start.pth'
    (train.folder / 'iter_4.pth').rename(start)
    tiny_config.write_text(tiny_config.read_text() + f'load_from = {str(start)!r}\n')
    assert train('--resume', '--work-dir', tmp_path / 'new')[0] == 0
    assert f'Load checkpoint from {start}' in log(tmp_path / 'new')
    assert 'resumed' not in log(tmp_path / 'new')


def test_mixed_precision_on_a_cpu(train):
    assert train('--amp')[0] == 0
    saved = torch.load(train.folder / 'iter_4.pth')
    assert 'loss_scaler' in saved['optimizer']


def test_bad_input_is_one_line(train, tmp_path):
    status, lines = train('--resume', 'none.pth')
    assert (status, lines[-1]) == (1, 'error: checkpoint not found: there is no file none.pth.')
    status, lines = train('--amp', '--cfg-options', 'optim_wrapper.type=OptimWrapperDict')
    assert (status, lines[-1]) == (
        1,
        'error: --amp needs optim_wrapper.type OptimWrapper, found OptimWrapperDict.',
    )
    torch.save({'w': torch.ones(1)}, tmp_path / 'w.pth')
    status, lines = train('--cfg-options', f'load_from={tmp_path / "w.pth"}')
    assert status == 1
    assert 'w.pth does not fit EncoderDecoder' in lines[-1]
