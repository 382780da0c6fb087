"""The CAT-Seg configs hold the published settings, and their words fit their data sets."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_siglip.cli.jobs.encoders import apply_encoder
from mmseg_siglip.models.windows.views import check_views
from mmseg_siglip.registry import DATASETS, METRICS, MODELS, TRANSFORMS
from mmseg_siglip.text.vocabulary import Vocabulary

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'cat_seg'
ENCODERS = [
    'clip_b16_384',
    'clip_l14_336',
    'siglip2_b16_384',
    'siglip2_l16_384',
    'siglip2_so400m14_384',
]
CLASSES = dict(coco_stuff=171, ade150=150, ade847=847, pc59=59, pc459=459, voc20=20, voc20b=21)
BENCHMARKS = [(data, encoder) for encoder in ENCODERS for data in CLASSES]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


def load(name, encoder=None):
    config = Config.fromfile(CONFIGS / f'{name}.py')
    if encoder is not None:
        apply_encoder(config, encoder)
    return config


def test_every_encoder_meets_every_benchmark():
    assert {path.stem for path in CONFIGS.glob('*.py')} == {*CLASSES, 'shapes', 'coco_mini', 'own'}
    models = yaml.safe_load((CONFIGS / 'metafile.yml').read_text())['Models']
    listed = {Path(model['Config']).stem: model['Metadata']['Encoders'] for model in models}
    assert all(listed[data] == ENCODERS for data in CLASSES)


@pytest.mark.parametrize('data', CLASSES)
def test_the_first_encoder_is_the_configs_own(data):
    own, named = load(data).to_dict(), load(data, ENCODERS[0]).to_dict()
    assert named.pop('work_dir') == f'work_dirs/{data}_{ENCODERS[0]}'
    assert named == own


@pytest.mark.parametrize(('data', 'encoder'), BENCHMARKS)
def test_the_published_protocol(data, encoder):
    config, large = load(data, encoder), encoder == 'clip_l14_336'
    model = config.model
    assert model.type == 'CATSegSegmentor' and model.decode_head == dict(type='CATSegHead')
    assert model.vocabulary == 'coco_stuff_catseg'
    assert model.encoder_size == ((336, 336) if large else (384, 384))
    test = check_views(model.test_cfg, model.encoder_size)
    assert (test['mode'], test['image_size']) == ('slide_global', (640, 640))
    assert (test['crop_size'], test['stride']) == ((384, 384), (256, 256))
    pipeline = config.test_dataloader.dataset.pipeline
    assert pipeline[1] == dict(type='Resize', scale=(2560, 640), keep_ratio=True)
    assert 'templates' not in model and 'finetune' not in model  # the defaults are the published
    assert model.backbone.type == ('CLIP' if 'clip' in encoder else 'SigLIP') + 'Backbone'
    assert model.backbone.get('position_offset') == (0 if 'clip' in encoder else None)


@pytest.mark.parametrize(('name', 'encoder'), [*BENCHMARKS, ('shapes', None), ('coco_mini', None)])
def test_words_fit_the_data_set(name, encoder):
    config = load(name, encoder)
    words = Vocabulary.load(config.model.get('test_vocabulary', config.model.vocabulary))
    dataset = DATASETS.get(config.test_dataloader.dataset.type)
    meta = getattr(dataset, 'METAINFO', {}).get('classes')
    if meta:
        assert len(words) == len(meta)
    if name in CLASSES:
        assert len(words) == CLASSES[name]
    wide = len(words) > 255
    assert all(TRANSFORMS.get(t.type) for t in config.test_dataloader.dataset.pipeline)
    assert METRICS.get(config.test_evaluator.type)
    assert (config.test_evaluator.get('ignore_index', 255) == 65535) is wide
    assert (config.model.get('synonyms') == 'max') is (name == 'voc20b')
    assert MODELS.get(config.model.type) and MODELS.get(config.tta_model.type)


@pytest.mark.parametrize('encoder', ENCODERS)
def test_the_published_schedule(encoder):
    config = load('coco_stuff', encoder)
    wrapper = config.optim_wrapper
    assert wrapper.optimizer == dict(type='AdamW', lr=2e-4, weight_decay=1e-4)
    assert wrapper.clip_grad == dict(max_norm=0.01)
    assert wrapper.paramwise_cfg.custom_keys.backbone == dict(lr_mult=0.01)
    assert wrapper.paramwise_cfg.norm_decay_mult == 0
    (schedule,) = config.param_scheduler  # no warm-up
    assert schedule.type == 'CosineAnnealingLR' and (schedule.begin, schedule.end) == (0, 80000)
    assert config.train_cfg.max_iters == 80000 and config.train_cfg.val_interval == 5000
    assert config.train_dataloader.batch_size == 4
    kinds = [t.type for t in config.train_dataloader.dataset.pipeline]
    assert kinds == [
        *('LoadImageFromFile', 'LoadAnnotations', 'RandomChoiceResize', 'RandomCrop'),
        *('PhotoMetricDistortion', 'RandomFlip', 'PackSegInputs'),
    ]
    resize, crop = config.train_dataloader.dataset.pipeline[2:4]
    assert (resize.scales, resize.resize_type, resize.max_size) == (
        [384],
        'ResizeShortestEdge',
        1333,
    )
    assert (crop.crop_size, crop.cat_max_ratio) == ((384, 384), 1.0)
    preprocessor = config.model.data_preprocessor
    assert preprocessor.size == (384, 384) and preprocessor.bgr_to_rgb
    assert (preprocessor.pad_val, preprocessor.seg_pad_val) == (0, 255)
    words = Vocabulary.load(config.model.vocabulary).names
    assert words == tuple(DATASETS.get('COCOStuffDataset').METAINFO['classes'])


@pytest.mark.parametrize('name', CLASSES)
def test_a_config_is_a_short_diff(name):
    assert len((CONFIGS / f'{name}.py').read_text().splitlines()) <= 12
