"""Every config parses, and the SCLIP configs hold the published settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_siglip.registry import DATASETS, METRICS, MODELS, TRANSFORMS
from mmseg_siglip.text.vocabulary import Vocabulary

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
EVERY = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob('*.py'))

# short side, logit_scale, prob_thd, area_thd, and the classes that follow
PUBLISHED = dict(
    voc21=(336, 65, 0.1, 0.1, 21),
    voc20=(336, 40, 0.0, None, 20),
    context60=(336, 50, 0.1, None, 60),
    context59=(336, 40, 0.0, None, 59),
    coco_object=(336, 50, 0.1, None, 81),
    coco_stuff=(448, 40, 0.0, None, 171),
    coco_stuff10k=(336, 40, 0.0, None, 171),
    cityscapes=(560, 40, 0.0, None, 19),
    ade20k=(336, 40, 0.0, None, 150),
)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


@pytest.mark.parametrize('name', EVERY)
def test_parses_and_survives_a_dump(name, tmp_path):
    config = Config.fromfile(CONFIGS / name)
    config.dump(tmp_path / 'dumped.py')
    assert Config.fromfile(tmp_path / 'dumped.py').to_dict() == config.to_dict()


@pytest.mark.parametrize('name', [name for name in EVERY if name.startswith('_base_/datasets/')])
def test_every_part_of_a_dataset_config_is_registered(name):
    config = Config.fromfile(CONFIGS / name)
    loaders = [config[key] for key in config if key.endswith('_dataloader')]
    assert loaders
    for loader in loaders:
        assert DATASETS.get(loader.dataset.type)
        for transform in loader.dataset.get('pipeline', ()):
            assert TRANSFORMS.get(transform.type)
    if 'test_dataloader' in config:
        assert METRICS.get(config.test_evaluator.type)
        assert config.test_cfg.type == 'TestLoop'


@pytest.mark.parametrize('name', PUBLISHED)
def test_settings_are_those_published(name):
    side, scale, probability, area, classes = PUBLISHED[name]
    config = Config.fromfile(CONFIGS / f'sclip/{name}.py')
    model = config.model
    assert model.type == 'SCLIPSegmentor' and model.attention == 'csa'
    assert model.backbone == dict(type='CLIPBackbone', pretrained='ViT-B/16')
    assert model.templates == 'imagenet80'
    assert (model.logit_scale, model.prob_thd) == (scale, probability)
    assert model.get('area_thd') == area
    assert model.test_cfg.mode == 'slide'
    assert model.test_cfg.crop_size == (224, 224) and model.test_cfg.stride == (112, 112)
    assert config.test_dataloader.dataset.pipeline[1].scale == (2048, side)
    assert model.vocabulary.endswith('_sclip') and len(Vocabulary.load(model.vocabulary)) == classes
    if probability:
        assert model.background_index == Vocabulary.load(model.vocabulary).background_index == 0


@pytest.mark.parametrize('name', PUBLISHED)
def test_siglip2_differs_in_model_and_corrected_names_only(name):
    clip = Config.fromfile(CONFIGS / f'sclip/{name}.py')
    siglip = Config.fromfile(CONFIGS / f'sclip/{name}_siglip2.py')
    assert siglip.model.backbone.type == 'SigLIPBackbone'
    assert siglip.model.vocabulary == clip.model.vocabulary.removesuffix('_sclip')
    assert siglip.test_dataloader == clip.test_dataloader
    assert siglip.test_evaluator == clip.test_evaluator


@pytest.mark.parametrize('name', [name for name in EVERY if name.startswith('sclip/')])
def test_attention_is_one_option(name):
    config = Config.fromfile(CONFIGS / name)
    config.merge_from_dict({'model.attention': 'naclip'})
    assert config.model.attention == 'naclip'
    assert MODELS.get(config.model.type) and MODELS.get(config.tta_model.type)
    lines = (CONFIGS / name).read_text().splitlines()
    assert len(lines) <= 16
