"""A referring model through ``tools/train.py`` and ``tools/test.py``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import command
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from PIL import Image
from tiny_sams import SAM_CONFIG

from mmseg_siglip.api.refer import ReferringSegmenter
from mmseg_siglip.registry import DATASETS, METRICS, MODELS

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
    assert command('train')(argv) == 0
    return folder / 'iter_2.pth'


def test_trained_tested_saved_and_drawn(trained, tmp_path):
    argv = [CONFIG, str(trained), '--work-dir', str(tmp_path / 'work')]
    argv += ['--out', str(tmp_path / 'masks'), '--show-dir', str(tmp_path / 'shown')]
    assert command('test')([*argv, '--cfg-options', *SMALL]) == 0
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
    assert command('test')([*argv, 'model.test_cfg.mode=slide']) == 1
    assert "expected 'whole', found 'slide'; a phrase such as" in capsys.readouterr().err
    assert command('test')([*argv[:4], '--tta', *argv[4:]]) == 1
    assert 'has no tta_model' in capsys.readouterr().err
    assert command('test')([CONFIG]) == 1
    assert 'has to be trained' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['refcoco', 'rsrefseg_b'])
def test_photographs_with_phrases(real_data, name):
    """Two of RefCOCO's pictures, fourteen phrases, through the configs' own test pipelines."""
    config = Config.fromfile(Path(CONFIG).with_stem(name))
    config.model.sam = dict(type='SAMAdapter', config=SAM_CONFIG, resize=config.model.sam.resize)
    config.model.backbone.pretrained = 'tiny_siglip_shapes'
    init_default_scope('mmseg_siglip')
    model = MODELS.build(config.model).eval()
    data = DATASETS.build(
        dict(
            type='ReferringDataset',
            data_root=str(real_data / 'refcoco-mini'),
            ann_file='refcoco_mini.json',
            pipeline=config.test_dataloader.dataset.pipeline,
            test_mode=True,
        )
    )
    metric = METRICS.build(config.test_evaluator)
    batch = pseudo_collate(list(data))
    assert max(batch['inputs'][0].shape) == 1024
    samples = model.test_step(batch)
    for sample in samples:
        assert sample.pred_sem_seg.data.shape == (len(sample.text), *sample.ori_shape)
    metric.process(batch, [sample.to_dict() for sample in samples])
    scores = metric.evaluate(size=len(data))
    assert 0 <= scores['oIoU'] <= 100 and 0 <= scores['Pr@0.5'] <= 100
