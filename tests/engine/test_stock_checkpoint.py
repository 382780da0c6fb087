"""What MMEngine's own Runner and hook wrote, used here."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from commands import command
from torch.serialization import get_unsafe_globals_in_checkpoint

from mmseg_siglip.weights.checkpoint import load_checkpoint_file, newest_checkpoint

PROGRAM = """
import sys
from mmengine.config import Config
from mmengine.runner import Runner

cfg = Config.fromfile(sys.argv[1])
cfg.pop('runner_type')
cfg.default_hooks.checkpoint.type = 'mmengine.CheckpointHook'
cfg.train_cfg.max_iters = 4
cfg.work_dir = sys.argv[2]
runner = Runner.from_cfg(cfg)
assert type(runner).__module__ == 'mmengine.runner.runner'
runner.train()
"""


@pytest.fixture(params=['here', pytest.param('process', marks=pytest.mark.slow)])
def stock(tiny_config, tmp_path, monkeypatch, request):
    """The last checkpoint of a run of MMEngine's own."""
    folder = tmp_path / 'stock'
    monkeypatch.chdir(tmp_path)
    if request.param == 'process':
        subprocess.run([sys.executable, '-c', PROGRAM, tiny_config, folder], check=True)
    else:
        monkeypatch.setattr(sys, 'argv', ['stock', str(tiny_config), str(folder)])
        exec(PROGRAM, {})  # noqa: S102
    return folder / 'iter_4.pth'


def test_a_stock_checkpoint_tests_starts_and_resumes(stock, tiny_config, tmp_path, capsys):
    pickled = set(get_unsafe_globals_in_checkpoint(stock))
    assert 'mmengine.logging.history_buffer.HistoryBuffer' in pickled and len(pickled) > 3
    true = torch.load(stock, weights_only=False)
    found = load_checkpoint_file(stock)
    assert found['state_dict'].keys() == true['state_dict'].keys()
    for name, tensor in true['state_dict'].items():
        assert torch.equal(tensor, found['state_dict'][name])
    assert found.keys() == true.keys() and 'cfg' not in found['meta']
    for name, history in true['message_hub']['log_scalars'].items():
        ours = found['message_hub']['log_scalars'][name]
        assert ours['values'].tolist() == history.data[0].tolist()
        assert ours['max_length'] == history.max_length
    assert newest_checkpoint(stock.parent)[0] == stock

    quick = ['--cfg-options', 'train_cfg.max_iters=4', 'experiment_name=quick']
    assert command('test')([tiny_config, stock, *quick, '--work-dir', tmp_path / 'test']) == 0
    start = f'load_from={stock}'
    assert command('train')([tiny_config, *quick, start, '--work-dir', tmp_path / 'new']) == 0
    resume = ['--resume', stock, '--cfg-options', 'experiment_name=on', 'train_cfg.max_iters=6']
    assert command('train')([tiny_config, *resume, '--work-dir', tmp_path / 'on']) == 0
    said = ''.join(file.read_text() for file in (tmp_path / 'on').glob('*/*.log'))
    assert f'Resumed from {stock}: weights, optimizer, schedules and' in said
    assert 'histories; left out: nothing.' in said and 'resumed epoch: 0, iter: 4' in said
    ours, theirs = load_checkpoint_file(tmp_path / 'on/iter_6.pth'), true['optimizer']['state']
    assert ours['meta']['iter'] == 6 and ours['optimizer']['state'].keys() == theirs.keys()

    from mmengine.config import ConfigDict

    true['meta']['tree'] = ConfigDict(a=1)
    torch.save(true, tmp_path / 'tree.pth')
    resume[1], resume[3] = tmp_path / 'tree.pth', 'experiment_name=tree'  # a log of its own
    assert command('train')([tiny_config, *resume, '--work-dir', tmp_path / 'tree']) == 0
    said = ''.join(file.read_text() for file in (tmp_path / 'tree').glob('*/*.log'))
    assert 'left out: meta.tree (mmengine.config.config.ConfigDict).' in said
    true['optimizer']['tree'] = ConfigDict(a=1)
    torch.save(true, tmp_path / 'tree.pth')
    capsys.readouterr()
    assert command('train')([tiny_config, *resume, '--work-dir', tmp_path / 'no']) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f'error: {tmp_path / "tree.pth"}: expected plain values, found optimizer.tree '
        '(mmengine.config.config.ConfigDict); load_from takes the weights alone'
    )
