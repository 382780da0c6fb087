"""A finished run as a folder that a system is made of."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from mmseg_siglip.api import SYSTEMS
from mmseg_siglip.api.system import System
from mmseg_siglip.cli.main import main


def convert(*arguments: object) -> int:
    return main(['convert', 'system', *map(str, arguments)])


def test_a_finished_run(depth_files, tmp_path, capsys):
    out = tmp_path / 'depth'
    facts = ['--licence', 'apache-2.0', '--data', 'ShapesWorld', '--limit', 'It knows shapes only.']
    assert convert(*depth_files, out, '--dtype', 'float16', *facts) == 0
    assert capsys.readouterr().out.endswith(f'{out}: a DepthPredictor\n')
    photo = np.full((40, 56, 3), 99, np.uint8)
    trained = SYSTEMS['depth'].from_config(*depth_files, device='cpu', precision='fp32')
    found = System.from_pretrained(out, device='cpu', precision='fp32')
    assert np.allclose(found(photo).depth, trained(photo).depth, atol=0.05)
    card = (out / 'README.md').read_text()
    assert yaml.safe_load(card.split('---')[1])['datasets'] == ['ShapesWorld']
    assert '- It knows shapes only.' in card


@pytest.mark.slow
def test_measured(depth_files, tmp_path, capsys):
    config, checkpoint = depth_files
    small = tmp_path / 'small.py'
    small.write_text(
        f'_base_ = {str(config)!r}\n'
        f'work_dir = {str(tmp_path / "work")!r}\n'
        'test_dataloader = dict(dataset=dict(num_scenes=2))\n'
    )
    assert convert(small, checkpoint, tmp_path / 'out', '--evaluate') == 0, capsys.readouterr().err
    card = yaml.safe_load((tmp_path / 'out/README.md').read_text().split('---')[1])
    metrics = card['model-index'][0]['results'][0]['metrics']
    assert 'depth/abs_rel' in {metric['type'] for metric in metrics}


def test_a_config_of_no_system(tmp_path, capsys):
    config = tmp_path / 'c.py'
    config.write_text("model = dict(type='SigLIPPretrainer')\n")
    assert convert(config, 'w.pth', tmp_path / 'out') == 1
    assert 'expected a model of one of OpenVocabularySegmentor, Ref' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
