import csv

import pytest
import torch
from commands import command
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_siglip.cli.benchmark import size
from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.registry import MODELS

main = command('benchmark')

SMALL = ['--cfg-options', 'test_dataloader.num_workers=0', 'test_dataloader.batch_size=2']
SMALL += ['test_dataloader.persistent_workers=False']


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    init_default_scope('mmseg_siglip')
    model = MODELS.build(Config.fromfile(config_folder() / 'refer_sam/shapes.py').model)
    path = tmp_path_factory.mktemp('refer') / 'iter_1.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(iter=1)), path)
    return str(path)


def test_one_table_of_resolutions(checkpoint, tmp_path, capsys):
    out = tmp_path / 'table.csv'
    argv = [checkpoint, '--referring', 'shapes', '--sizes', '64', '48x72', '--num-samples', '2']
    argv += ['--out', str(out), '--work-dir', str(tmp_path / 'work'), *SMALL]
    assert main(argv) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('| ')]
    assert [line.split(' | ')[:3] for line in lines[1:]] == [
        ['| shapes', '64x64', '2'],
        ['| shapes', '48x72', '2'],
    ]
    rows = list(csv.DictReader(out.open()))
    assert all(0 <= float(row[key]) <= 100 for row in rows for key in ('oIoU', 'mIoU', 'Pr@0.5'))
    assert rows[0]['SigLIP sees'] == '64x64' and float(rows[0]['images/s']) > 0


def test_another_encoder_has_rows_of_its_own(checkpoint, tmp_path, capsys):
    argv = [checkpoint, '--referring', 'shapes', '--encoder', 'tiny_siglip_shapes']
    argv += ['--num-samples', '1', '--work-dir', str(tmp_path), *SMALL]
    assert main(argv) == 0
    assert '| shapes_tiny_siglip_shapes | own size | 1 |' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['none.pth', '--referring', 'shapes', '--encoder', 'no'], '--encoder: expected a .py'),
        (['none.pth', '--referring', 'shapes'], 'checkpoint not found'),
        (['none.pth', '--referring', 'nothing'], "unknown referring config 'nothing'; expected"),
    ],
)
def test_mistakes_take_one_line(argv, message, capsys):
    assert main(argv) == 1
    assert message in capsys.readouterr().err


def test_sizes():
    assert size('384') == (384, 384) and size('256x384') == (256, 384)
    for text in ('0', '3x', 'big', '1x2x3'):
        with pytest.raises(Exception, match='expected a side or HEIGHTxWIDTH'):
            size(text)
