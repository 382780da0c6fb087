"""Settings that no tensor tells are told by the checkpoint, and compared by whoever loads it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_siglip.api.load import load_trained
from mmseg_siglip.cli.jobs.conversions import vlm as vlm_conversion
from mmseg_siglip.engine.fitting import compare_weights
from mmseg_siglip.engine.runner import Runner
from mmseg_siglip.models.backbones import CLIPBackbone
from mmseg_siglip.models.data_preprocessor import ImageListPreProcessor
from mmseg_siglip.models.learnt_with import (
    as_plain,
    flat,
    learnt_otherwise,
    learnt_with,
    require_learnt_with,
)
from mmseg_siglip.models.segmentors.depth_estimator import SigLIPDepthEstimator
from mmseg_siglip.registry import MODELS, SCOPE

HEAD = 'model.decode_head'
CHANGES = [
    ('dpt/shapes_frozen.py', {f'{HEAD}.max_depth': 80.0}, 'decode_head.max_depth'),
    ('dpt/shapes_frozen.py', {f'{HEAD}.output': 'relative'}, 'decode_head.output'),
    ('dpt/shapes_frozen.py', {'model.tap_layers': (0, 1, 2, 3)}, 'taps.layers'),
    ('dpt/shapes_frozen.py', {'model.tap_norm': 'none'}, 'taps.tap_norm'),
    ('dpt/shapes_lora.py', {'model.lora.alpha': 1.0}, 'lora.scaling [2.0], found [0.0625]'),
    ('cat_seg/shapes.py', {'model.guidance_blocks': (0, 1)}, 'guidance_blocks'),
    ('cat_seg/shapes.py', {'model.attention': 'vanilla'}, 'attention.type'),
    ('cat_seg/shapes.py', {f'{HEAD}.num_heads': 2}, '.num_heads'),
    ('cat_seg/shapes.py', {f'{HEAD}.window': 3}, '.window'),
    ('refer_sam/shapes.py', {'model.encoder.similarity': 'tower'}, 'encoder.similarity'),
    ('refer_sam/shapes_pool.py', {f'{HEAD}.target_spatial_dim': 3}, 'prompter.target'),
    ('refer_sam/shapes.py', {f'{HEAD}.dense': 'global'}, 'decode_head.dense'),
    ('refer_sam/shapes.py', {'model.sam.resize': 'squash'}, 'sam.resize'),
    ('refer_sam/shapes.py', {f'{HEAD}.norm_cfg': dict(type='GN', num_groups=1)}, '.num_groups'),
    ('vlm/shapes.py', {'model.select_layer': -1}, 'layers'),
    ('vlm/shapes.py', {'model.llm.num_attention_heads': 2}, 'towers.llm.num_attention_heads'),
    ('vlm/shapes_depth.py', {'model.depth.space': 'depth'}, 'depth.space'),
]


def model_of(repository, file, changes=()):
    init_default_scope(SCOPE)
    cfg = Config.fromfile(repository / 'configs' / file)
    cfg.merge_from_dict(dict(changes))
    return MODELS.build(cfg.model)


@pytest.mark.parametrize(('file', 'changes', 'named'), CHANGES)
def test_a_change_that_fits_every_tensor_is_seen(repository, file, changes, named):
    trained = model_of(repository, file)
    other = model_of(repository, file, changes)
    missing, reshaped, _ = compare_weights(other, trained.state_dict())
    assert not missing and not reshaped
    checkpoint = dict(meta=dict(learnt_with=learnt_with(trained)))
    assert learnt_otherwise(trained, checkpoint) == ''
    assert named in learnt_otherwise(other, checkpoint)
    with pytest.raises(ValueError, match='file.pth: expected the settings .* trained with, .* in'):
        require_learnt_with(other, checkpoint, 'file.pth')


@pytest.mark.parametrize(
    'checkpoint',
    [{}, dict(meta=None), dict(meta={}), dict(meta=dict(learnt_with=3)), dict(meta=dict(x=1))],
)
def test_a_checkpoint_that_does_not_tell_is_believed(checkpoint):
    assert learnt_otherwise(torch.nn.Linear(1, 1), checkpoint) == ''


def test_what_is_told_is_short():
    model = torch.nn.Module()
    model.learnt_with = tuple('abcde')
    for name in model.learnt_with:
        setattr(model, name, name * 1000)
    told = learnt_otherwise(model, dict(meta=dict(learnt_with=dict.fromkeys('abcde', 1))))
    assert told.endswith(' and 2 more') and len(told) < 400


def test_a_preprocessor_that_does_not_normalise():
    assert learnt_with(ImageListPreProcessor()) == dict(mean=None, std=None)


def test_values_are_plain():
    assert as_plain(torch.tensor([[123.675], [1e-6]])) == [123.675, 1e-6]
    assert as_plain(1e-6) == 1e-6 and as_plain(float('inf')) == float('inf')
    assert as_plain((1, (2, np.float64(0.1)))) == [1, [2, 0.1]]
    assert as_plain(np.ones(2)) == [1, 1] and as_plain('x') == 'x' and as_plain(None) is None
    assert flat('a', dict(b=(1,), c=dict(d=2))) == {'a.b': [1], 'a.c.d': 2}


SAME = [
    ('refer_sam/shapes_conv.py', {f'{HEAD}.target_spatial_dim': 4}),
    ('vlm/shapes.py', {'model.select_layer': 5}),
    ('cat_seg/shapes.py', {'model.test_vocabulary': ['a', 'b'], f'{HEAD}.test_pooling': 2}),
    ('dpt/shapes_frozen.py', {'model.tap_readout': 'pooled', f'{HEAD}.min_depth': 0.5}),
]


@pytest.mark.parametrize(('file', 'changes'), SAME)
def test_what_makes_no_difference_is_not_told(repository, file, changes):
    told = learnt_with(model_of(repository, file))
    assert learnt_with(model_of(repository, file, changes)) == told


def test_a_fusion_may_be_new(repository):
    told = learnt_with(model_of(repository, 'vlm/shapes.py'))
    fused = model_of(repository, 'vlm/shapes_depth.py')
    assert learnt_otherwise(fused, dict(meta=dict(learnt_with=told))) == ''


def test_adapters_that_are_not_of_peft():
    adapter = torch.nn.Linear(1, 1)
    adapter.lora_A = torch.nn.Parameter(torch.ones(1))
    assert learnt_with(adapter) == {}
    adapter.scaling = 2.0
    assert learnt_with(adapter) == {}


@pytest.mark.parametrize(('quick', 'name'), [(False, 'GELU'), (True, 'QuickGELU')])
def test_the_activation_of_a_clip(clip_config, quick, name):
    told = learnt_with(CLIPBackbone(arch=dict(clip_config, quick_gelu=quick)))
    assert told['activation'] == name and told['resampling.offset'] == 0.1


@pytest.fixture
def depth(repository, tmp_path):
    """A config of a training of one step, and the checkpoint that it leaves."""
    cfg = Config.fromfile(repository / 'configs/dpt/shapes_frozen.py')
    cfg.merge_from_dict(
        {
            'work_dir': str(tmp_path / 'run'),
            'train_cfg.max_iters': 1,
            'train_dataloader.batch_size': 1,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'default_hooks.checkpoint.interval': 1,
            'test_dataloader.dataset.num_scenes': 1,
            'test_dataloader.num_workers': 0,
            'test_dataloader.persistent_workers': False,
        }
    )
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    Runner.from_cfg(cfg.copy()).train()
    return cfg, tmp_path / 'run/iter_1.pth'


def test_metres_of_another_range_are_refused(depth, tmp_path):
    cfg, checkpoint = depth
    assert isinstance(load_trained(SigLIPDepthEstimator, cfg, checkpoint), SigLIPDepthEstimator)
    cfg.model.decode_head.max_depth = 80.0
    sentence = 'expected the settings .* with, decode_head.max_depth 16.0, found 80.0 in the config'
    with pytest.raises(ValueError, match=f'iter_1.pth: {sentence}'):
        load_trained(SigLIPDepthEstimator, cfg, checkpoint)
    cfg.load_from, cfg.work_dir = str(checkpoint), str(tmp_path / 'other')
    with pytest.raises(ValueError, match=f'iter_1.pth: {sentence}'):
        Runner.from_cfg(cfg.copy()).test()
    cfg.resume = True
    with pytest.raises(ValueError, match=f'iter_1.pth: {sentence}'):
        Runner.from_cfg(cfg.copy()).train()
    cfg.resume = False
    Runner.from_cfg(cfg.copy()).train()
    logs = ''.join(log.read_text() for log in (tmp_path / 'other').glob('*/*.log'))
    assert 'iter_1.pth were trained with decode_head.max_depth 16.0, found 80.0' in logs


def test_a_llava_is_not_written_by_another_config(repository, tmp_path):
    trained = model_of(repository, 'vlm/shapes.py')
    state = dict(state_dict=trained.state_dict(), meta=dict(learnt_with=learnt_with(trained)))
    torch.save(state, tmp_path / 'iter_1.pth')
    config = tmp_path / 'other.py'
    config.write_text(
        f"_base_ = '{repository}/configs/vlm/shapes.py'\nmodel = dict(select_layer=-1)\n"
    )
    with pytest.raises(ValueError, match=r'with, layers \[\d\], found \[\d\] in the config'):
        vlm_conversion.convert(config, tmp_path / 'iter_1.pth', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
