"""The files of encoders, and every pair of a config and an encoder that the metafiles name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_siglip.cli.jobs.encoders import apply_encoder
from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.registry import MODELS

REPOSITORY = Path(__file__).resolve().parents[2]
ENCODERS = sorted(path.stem for path in (REPOSITORY / 'configs/_base_/encoders').glob('*.py'))
FOLDERS = ('cat_seg', 'dpt', 'refer_sam', 'sclip')
PAIRS = [
    (model['Config'], encoder)
    for folder in FOLDERS
    for model in yaml.safe_load((REPOSITORY / f'configs/{folder}/metafile.yml').read_text())[
        'Models'
    ]
    for encoder in model['Metadata']['Encoders']
]
OWN = dict(reversed(PAIRS))  # the first of each config


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


def encoder_of(name):
    return Config.fromfile(REPOSITORY / f'configs/_base_/encoders/{name}.py')


@pytest.mark.parametrize('name', ENCODERS)
def test_a_file_is_an_encoder_and_its_size(name):
    config = encoder_of(name)
    assert set(config) == {'encoder', 'encoder_size'}
    assert issubclass(MODELS.get(config.encoder.type), VisionLanguageBackbone)
    height, width = config.encoder_size
    assert height == width
    side = re.search(r'_(\d+)$', name)
    assert side is None or int(side[1]) == height
    published = re.search(r'(\d+)(px)?$', config.encoder.pretrained)
    if published and int(published[1]) > 16:  # less is a patch
        assert int(published[1]) == height


def test_no_two_files_are_the_same_and_none_is_unused():
    assert len({str(encoder_of(name).to_dict()) for name in ENCODERS}) == len(ENCODERS)
    assert {encoder for _, encoder in PAIRS} == set(ENCODERS)


def test_the_shipped_encoder_has_its_size():
    config = encoder_of('tiny_siglip_shapes')
    assert MODELS.build(config.encoder).image_size == config.encoder_size


@pytest.mark.parametrize(('path', 'name'), OWN.items())
def test_a_config_stands_on_the_first_encoder_of_its_entry(path, name):
    config, given = Config.fromfile(REPOSITORY / path), encoder_of(name)
    assert config.model.backbone == config.encoder == given.encoder
    assert config.encoder_size == given.encoder_size
    assert config.model.get('encoder_size', given.encoder_size) == given.encoder_size
    assert 'work_dir' not in config


@pytest.mark.parametrize(('path', 'name'), PAIRS)
def test_another_encoder_changes_nothing_else(path, name):
    before, after = (Config.fromfile(REPOSITORY / path) for _ in range(2))
    given = encoder_of(name)
    apply_encoder(after, name)
    assert after.model.backbone == after.encoder == given.encoder
    assert after.work_dir == f'work_dirs/{Path(path).stem}_{name}'
    assert after.model.get('encoder_size') == (
        given.encoder_size if 'encoder_size' in before.model else None
    )
    before.model.backbone = before.encoder = given.encoder
    before.encoder_size, before.work_dir = given.encoder_size, after.work_dir
    if 'encoder_size' in before.model:
        before.model.encoder_size = given.encoder_size
    if before.get('load_from'):
        before.load_from = before.load_from.replace('/iter', f'_{name}/iter')
    assert after.to_dict() == before.to_dict()
