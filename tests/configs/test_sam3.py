"""The configs of SAM 3 through the commands and the API, on a tiny one with random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import command
from contracts.system import SystemContract
from mmengine.config import Config
from PIL import Image

from mmseg_siglip.api import OpenVocabSegmenter
from mmseg_siglip.text.vocabulary import Vocabulary

CONFIGS = Path(__file__).parents[2] / 'configs' / 'sam3'
ON_DISK = ('ade20k', 'coco_object', 'voc21')
LOADER = ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']


def evaluate(config, folder, tmp_path, *options):
    """Metrics of ``mmseg-siglip test``."""
    argv = [config, folder, '--work-dir', tmp_path, '--cfg-options', *LOADER, *options]
    assert command('test')(argv) == 0
    (file,) = tmp_path.glob('*/*.json')
    return json.loads(file.read_text().splitlines()[-1])


@pytest.mark.parametrize('name', ON_DISK)
def test_benchmarks(sam3_folder, laid_out, tmp_path, name):
    root = f'test_dataloader.dataset.data_root={laid_out(name)}'
    found = evaluate(CONFIGS / f'{name}.py', sam3_folder, tmp_path, root)
    assert 0 <= found['mIoU'] <= 100


def test_shapes_world(sam3_folder, tmp_path):
    scenes = 'test_dataloader.dataset.num_scenes=2'
    found = evaluate(CONFIGS / 'shapes.py', sam3_folder, tmp_path, scenes)
    assert 0 <= found['mIoU'] <= 100


def test_shapes_world_with_a_vote(sam3_folder, tmp_path):
    scenes = 'test_dataloader.dataset.num_scenes=2'
    place = 'model.postprocessor.regions'
    options = [f'{place}.sam.pretrained={sam3_folder}', f'{place}.min_score=0.1', scenes]
    config = CONFIGS / 'shapes_vote.py'
    found = evaluate(config, 'tiny_siglip_shapes', tmp_path, *options)
    assert 0 <= found['mIoU'] <= 100


@pytest.mark.parametrize('name', [path.stem for path in CONFIGS.glob('*.py')])
def test_settings(name):
    config = Config.fromfile(CONFIGS / f'{name}.py')
    steps = [step.type for step in config.test_dataloader.dataset.pipeline]
    assert 'Resize' not in steps and steps[-1] == 'PackSegInputs'
    vocabulary = Vocabulary.load(config.model.vocabulary)
    assert bool(config.model.get('prob_thd')) == (vocabulary.background_index is not None)


def test_a_system(sam3_folder, tmp_path):
    config = CONFIGS / 'shapes.py'
    system = OpenVocabSegmenter.from_config(config, sam3_folder, precision='fp32')
    assert system.short_side is None
    SystemContract('segment', system, ['cat, kitten', 'red star', 'grass']).check(tmp_path)
    with pytest.raises(ValueError, match='found a SAM3Segmentor'):
        system.compute_dense_similarity(np.zeros((40, 50, 3), np.uint8), ['cat'])


def test_commands(sam3_folder, tmp_path, capsys):
    rng = np.random.default_rng(0)
    photo, out = tmp_path / 'photo.png', tmp_path / 'out'
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(photo)
    argv = ['--config', CONFIGS / 'shapes.py', '--checkpoint', sam3_folder, '--out', out]
    assert command('segment')([photo, 'cat, dog, grass', *argv]) == 0
    assert np.array(Image.open(out / 'photo.png.labels.png')).shape == (40, 50)
    lost = tmp_path / 'lost'
    shutil.copytree(sam3_folder, lost)
    (lost / 'config.json').write_text(json.dumps(dict(model_type='sam3_tracker')))
    argv[3] = lost
    capsys.readouterr()
    assert command('segment')([photo, 'cat', *argv]) == 1
    assert "expected model_type sam3, sam3_lite_text or sam3_video, found 'sam3_tracker'" in (
        capsys.readouterr().err
    )
    encoder = [CONFIGS / 'shapes.py', '--encoder', 'clip_b16_224']
    assert command('test')(encoder) == 1
    assert 'expected a model with an image-text encoder' in capsys.readouterr().err
