from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.registry import Registry
from torch import nn

from mmseg_siglip.api.description import build_from_data, check_data, own_names
from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.registry import DENSE_METHODS, GUIDES, MODELS

PAMR = dict(type='PAMRPostProcessor', num_iter=1)
SEGMENTOR = dict(
    type='SCLIPSegmentor',
    backbone=dict(type='SigLIPBackbone', pretrained='tiny_siglip_shapes', readout='value'),
    vocabulary=['red circle', 'wall/brick', 'C++, C#'],
    templates='single',
    attention=dict(type='naclip'),
    postprocessor=[PAMR],
)


def changed(**change):
    return deepcopy(SEGMENTOR) | change


def test_a_description_is_built():
    model = build_from_data(MODELS, changed(), 'model.json')
    assert isinstance(model, SCLIPSegmentor)


@pytest.mark.parametrize('kind', ['os.system', 'os:system', 'mmseg_siglip.os.system', 'mmengine.X'])
@pytest.mark.parametrize('place', ['postprocessor', 'attention', 'backbone', 'score_steps'])
def test_no_type_is_imported(tmp_path, kind, place):
    """The registries themselves would run the nested command."""
    bird = tmp_path / 'ran'
    evil = dict(type=kind, command=f'touch {bird}')
    settings = changed(**{place: [evil] if place != 'backbone' else evil})
    with pytest.raises(
        ValueError, match=rf'^x: {place}: expected the bare name of a class .* found'
    ):
        build_from_data(MODELS, settings, 'x')
    assert not bird.exists()


def test_what_is_refused_would_run(tmp_path):
    evil = dict(type='os.system', command=f'touch {tmp_path / "ran"}')
    with pytest.raises(Exception):  # noqa: B017, as the command gives no module
        MODELS.build(changed(postprocessor=[evil]))
    assert (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(type='mmseg.EncoderDecoder'), "bare name .* 'mmseg.EncoderDecoder'"),
        (dict(type='EncoderDecoder'), "bare name .* 'EncoderDecoder'"),
        (dict(type='IoUMetric'), 'bare name'),
        (dict(type=SCLIPSegmentor), 'bare name'),
        (dict(type=['SCLIPSegmentor']), 'bare name'),
        (dict(_scope_='mmengine'), "names of settings, found '_scope_'"),
        (dict(extra=1), "arguments of SCLIPSegmentor .* found 'extra'"),
        (dict(vocabulary='words.txt'), 'nothing that lies elsewhere'),
        (dict(vocabulary='../words'), 'nothing that lies elsewhere'),
        (dict(backbone=dict(pretrained='google/siglip-base-patch16-224')), 'lies elsewhere'),
        (dict(backbone=dict(type='SigLIPBackbone', config='/etc')), 'lies elsewhere'),
        (dict(backbone=dict(pretrained=5)), 'pretrained: .*lies elsewhere, found 5'),
        (dict(vocabulary=['a', 5]), 'vocabulary: .*lies elsewhere, found 5'),
        (dict(templates='of_none'), 'of_none'),
        (dict(templates='/etc/passwd'), 'a bare name, no path'),
        (dict(templates='http://x'), 'a bare name, no path'),
        (dict(templates='..'), 'a bare name, no path'),
        (dict(postprocessor=[Path('x')]), 'a plain value, found a PosixPath'),
        (dict(postprocessor=[nn.ReLU()]), 'a plain value, found a ReLU'),
        (dict(postprocessor=(PAMR,)), 'a plain value, found a tuple'),
        (dict(prob_thd=float('nan')), 'a finite number'),
        (dict(prob_thd=torch.ones(())), 'a plain value, found a Tensor'),
        (dict(backbone=dict(type='SigLIPBackbone', config=dict(num_hidden_layers=10**9))), 'most'),
        (dict(compile_backend='inductor'), 'lies elsewhere'),
    ],
)
def test_what_is_refused(change, message):
    with pytest.raises(ValueError, match=rf'^x: .*{message}') as caught:
        build_from_data(MODELS, changed(**change), 'x')
    assert '\n' not in str(caught.value)


def test_depth_and_shape():
    nested: list = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(ValueError, match='at most 32 levels'):
        check_data(changed(postprocessor=nested), 'x')
    with pytest.raises(ValueError, match='expected an object, found a list'):
        check_data([SEGMENTOR], 'x')
    with pytest.raises(ValueError, match="expected a guide of this package as type, found 'PAMR"):
        build_from_data(GUIDES, PAMR, 'x')
    with pytest.raises(ValueError, match='expected a model of this package as type, found None'):
        build_from_data(MODELS, {}, 'x')


def test_modes_of_training_are_no_classes():
    check_data(dict(type='CATSegSegmentor', finetune=dict(type='lora', rank=4)), 'x')


def test_arguments_handed_on_are_known():
    check_data(dict(type='DINOGuide', config=dict(hidden_size=8), site='q+k'), 'x')
    with pytest.raises(ValueError, match="arguments of DINOGuide .* found 'command'"):
        check_data(dict(type='DINOGuide', command='x'), 'x')


def test_values_that_do_not_fit_are_one_sentence():
    with pytest.raises(ValueError, match=r'^x: no PAMRPostProcessor can be built'):
        build_from_data(MODELS, dict(type='PAMRPostProcessor', num_iter=1, dilations=3), 'x')


def test_only_ours_are_taken():
    assert 'naclip' in own_names(DENSE_METHODS)
    registry = Registry('other', locations=['mmseg_siglip.models'])
    registry.register_module(name='system', module=os.system, force=True)
    registry.register_module(name='relu', module=nn.ReLU)
    registry.register_module(name='ours', module=SCLIPSegmentor)
    assert own_names(registry) == dict(ours=SCLIPSegmentor)
