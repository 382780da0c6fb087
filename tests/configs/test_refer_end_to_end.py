"""A referring model through ``tools/train.py`` and ``tools/test.py``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.cli import test as test_command
from mmseg_siglip.cli import train as train_command
from mmseg_siglip.referring import ReferringSegmenter

CONFIG = str(Path(__file__).resolve().parents[2] / 'configs/refer_sam/shapes.py')
SMALL = ['model.encoder.train_sizes=[(32,48)]', 'model.encoder.image_size=(32,48)']
for split in ('train', 'val', 'test'):
    SMALL += [f'{split}_dataloader.num_workers=0', f'{split}_dataloader.batch_size=2']
    SMALL += [f'{split}_dataloader.persistent_workers=False']
    SMALL += [f'{split}_dataloader.dataset.num_scenes=2']


def scores(folder):
    (file,) = folder.glob('*/[0-9]*.json')
    return json.loads(file.read_text().splitlines()[-1])


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('train')
    argv = [CONFIG, '--work-dir', str(folder), '--cfg-options', 'train_cfg.max_iters=2']
    argv += ['train_cfg.val_interval=2', *SMALL]
    assert train_command.main(argv) == 0
    return folder / 'iter_2.pth'


def test_trained_tested_saved_and_drawn(trained, tmp_path):
    argv = [CONFIG, str(trained), '--work-dir', str(tmp_path / 'work')]
    argv += ['--out', str(tmp_path / 'masks'), '--show-dir', str(tmp_path / 'shown')]
    assert test_command.main([*argv, '--cfg-options', *SMALL]) == 0
    found = scores(tmp_path / 'work')
    assert {'oIoU', 'mIoU', 'Pr@0.5', 'Pr@0.9'} <= set(found)
    masks = sorted((tmp_path / 'masks').rglob('*.png'))
    pictures = sorted((tmp_path / 'shown').rglob('*.png'))
    assert len(masks) == len(pictures) == 12  # two scenes, six phrases each
    assert np.asarray(Image.open(masks[0])).shape == (128, 192)
    assert '_the ' in pictures[0].name
    segmenter = ReferringSegmenter(CONFIG, trained)
    found = segmenter(np.zeros((128, 192, 3), np.uint8), ['the red star', 'the ring'])
    assert [one.mask.shape for one in found] == [(128, 192)] * 2


def test_mistakes_take_one_line(trained, tmp_path, capsys):
    argv = [CONFIG, str(trained), '--work-dir', str(tmp_path), '--cfg-options', *SMALL]
    assert test_command.main([*argv, 'model.test_cfg.mode=slide']) == 1
    assert "expected 'whole', found 'slide'; a phrase such as" in capsys.readouterr().err
    assert test_command.main([*argv[:4], '--tta', *argv[4:]]) == 1
    assert 'has no tta_model' in capsys.readouterr().err
    assert test_command.main([CONFIG]) == 1
    assert 'has to be trained' in capsys.readouterr().err
