"""Every referring config names what exists and builds its model, on small encoders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tiny_sams import SAM2_CONFIG, SAM_CONFIG

from mmseg_siglip.cli.jobs.encoders import apply_encoder
from mmseg_siglip.models.lora import lora_layers
from mmseg_siglip.registry import DATASETS, METRICS, MODELS, TRANSFORMS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/refer_sam'
EVERY = sorted(path.stem for path in CONFIGS.glob('*.py'))
RESOLUTIONS = 'b16_224 b16_256 b32_256 b16_512 so400m14_384 so400m16_512 b16_naflex'.split()


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


def load(name):
    config = Config.fromfile(CONFIGS / f'{name}.py')
    sam = config.model.sam
    if 'config' not in sam:
        kind = SAM2_CONFIG if 'sam2' in sam.pop('checkpoint') else SAM_CONFIG
        sam.config = kind
    config.model.backbone.pretrained = 'tiny_siglip_shapes'
    return config


@pytest.mark.parametrize('name', EVERY)
def test_builds(name):
    assert len((CONFIGS / f'{name}.py').read_text().splitlines()) <= 20
    config = load(name)
    model = MODELS.build(config.model)
    lora = [layer for layer in lora_layers(model) if layer.startswith('encoder.')]
    assert bool(lora) == ('shapes' not in name)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        assert DATASETS.get(loader.dataset.type)
        for transform in loader.dataset.pipeline:
            assert TRANSFORMS.get(transform.type)
    assert METRICS.build(config.test_evaluator)
    assert config.param_scheduler[-1].end == config.train_cfg.max_iters


@pytest.mark.parametrize('name', RESOLUTIONS)
def test_another_resolution_is_another_name(name):
    config, base = (Config.fromfile(CONFIGS / 'refcoco.py') for _ in range(2))
    apply_encoder(config, f'siglip2_{name}')
    assert config.pop('work_dir') == f'work_dirs/refcoco_siglip2_{name}'
    assert config.model.backbone.pop('pretrained') != base.model.backbone.pop('pretrained')
    for cfg in (config, base):
        cfg.pop('encoder')
        cfg.pop('encoder_size')
    assert config.to_dict() == base.to_dict()


@pytest.mark.parametrize(('name', 'sam'), [('rsrefseg_b', 'base'), ('rsrefseg_l', 'large')])
def test_rsrefseg_has_the_published_settings(name, sam):
    config = Config.fromfile(CONFIGS / f'{name}.py')
    assert config.model.backbone.pretrained == 'google/siglip-so400m-patch14-384'
    assert config.model.sam.checkpoint == f'facebook/sam-vit-{sam}'
    assert config.train_dataloader.dataset.pipeline[2].scale == (1024, 1024)
    assert not config.train_dataloader.dataset.pipeline[2].keep_ratio
    assert config.test_dataloader.dataset.split == 'test'
    assert METRICS.build(config.test_evaluator).strict
    for loader in (config.val_dataloader, config.test_dataloader):
        assert loader.batch_size == 1 and loader.dataset.apart  # nothing to pad a phrase to
    model = MODELS.build(load(name).model)
    assert model.parity and model.encoder.parity
    assert isinstance(model.decode_head.norm, torch.nn.SyncBatchNorm)
    assert any(name.endswith('text_model.head') for name in lora_layers(model.encoder))
    assert model.decode_head.steps == 2 and model.decode_head.dense == 'global'
    assert [type(loss).__name__ for loss in model.decode_head.losses] == ['MaskBCELoss']
    assert model.decode_head.losses[0].loss_weight == 5
    layer = next(iter(lora_layers(model.encoder).values()))
    assert layer.r['default'] == 16 and layer.scaling['default'] == 1
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    assert any('sam.model.mask_decoder' in name for name in trains)
    assert any('sam.model.prompt_encoder.mask_embed' in name for name in trains)
    assert not any('text_model' in name and 'lora' not in name for name in trains)
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-4, 0.05)
    epoch = 12181 / 32
    assert config.train_cfg.max_iters == pytest.approx(200 * epoch, rel=0.01)
    warm, cosine = config.param_scheduler
    assert warm.end == cosine.begin == pytest.approx(5 * epoch, rel=0.01)
    assert warm.start_factor == 0.01 and cosine.T_max == config.train_cfg.max_iters
    assert cosine.eta_min == pytest.approx(0.001 * optimizer.lr)


@pytest.mark.parametrize(('name', 'mode'), [('rsrefseg2', 'rsrefseg2'), ('cascade', 'cascade')])
def test_rsrefseg2_has_the_published_settings(name, mode):
    config = Config.fromfile(CONFIGS / f'{name}.py')
    assert config.model.backbone.pretrained == 'google/siglip2-so400m-patch16-512'
    assert config.model.sam.checkpoint == 'facebook/sam2.1-hiera-large'
    assert config.model.sam.resize == 'pad'
    model = MODELS.build(load(name).model)
    head, published = model.decode_head, name == 'rsrefseg2'
    assert (head.prompt_mode, head.dense, head.num_prompts) == (mode, 'matched', 9)
    weights = {type(loss).__name__: loss.loss_weight for loss in head.losses}
    assert weights == {'MaskBCELoss': 5, 'MaskDiceLoss': 5}
    assert (head.overlap_loss_weight, head.contrast_loss_weight) == (0.5, 0.5)
    optimizer = config.optim_wrapper
    assert optimizer.optimizer.weight_decay == 0.05 and optimizer.clip_grad.max_norm == 3
    if not published:
        prompter = type(head.prompter)(256, text_channels=1152)  # at full size
        found = sum(parameter.numel() for parameter in prompter.parameters())
        assert round(found / 1e6, 1) == 12.5  # the published code's has 82.8 M
    batch = 8 * config.train_dataloader.batch_size
    epoch = 12181 / batch
    assert config.train_cfg.max_iters == pytest.approx(300 * epoch, rel=0.01)
    warm, cosine = config.param_scheduler
    found = warm.end, cosine.begin, cosine.T_max
    assert found == pytest.approx((5 * epoch, 30 * epoch, 390 * epoch), rel=0.01)
    assert warm.start_factor == 0.01
    assert cosine.eta_min == pytest.approx(0.01 * optimizer.optimizer.lr)
    flips = [step.type for step in config.train_dataloader.dataset.pipeline]
    assert ('RandomReferringFlip' in flips) != published
    assert model.parity == model.sam.model.mask_decoder.dynamic_multimask_via_stability == published
    assert head.losses[1].squared == published
    assert bool(config.test_dataloader.dataset.get('apart')) == published
    assert METRICS.build(config.test_evaluator).strict == published
