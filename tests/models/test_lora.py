"""Adapters: no effect at first, every one of them trains, nothing else does, merging is exact."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.backbones.towers import Tower
from mmseg_siglip.models.lora import add_lora, lora_layers, merge_lora, select_adapter

SIGLIP_TARGETS = ['q_proj', 'k_proj', 'v_proj', 'out_proj', 'fc1', 'fc2']
CASES = [
    ('siglip', dict(rank=2), 6),
    ('siglip', dict(rank=2, targets=SIGLIP_TARGETS), 18),
    ('siglip', dict(rank=2, targets=SIGLIP_TARGETS, towers=('vision', 'text')), 30),
    ('siglip', dict(rank=2, targets=['q_proj', 'head'], towers=('vision', 'text')), 6),
    ('siglip', dict(rank=2, targets=['head'], towers=('text',)), 1),
    ('naflex', dict(rank=2, targets=['fc1']), 3),
    ('clip', dict(rank=2), 9),
    ('clip', dict(rank=2, targets=['c_fc', 'c_proj'], towers=('vision', 'text')), 10),
    ('clip', dict(rank=2, towers=('text',)), 4),
]


@pytest.fixture(scope='module')
def build(siglip_folder, naflex_folder, openai_file):
    backbones = dict(
        siglip=SigLIPBackbone(siglip_folder),
        naflex=SigLIPBackbone(naflex_folder),
        clip=CLIPBackbone(openai_file, arch=None),
    )
    return lambda name: copy.deepcopy(backbones[name])


def outputs(backbone, images):
    """Everything that the towers compute."""
    return (
        *backbone(images),
        backbone.dense(images, attention='vanilla'),
        backbone.encode_image(images),
        backbone.encode_text(['a cat', 'the red star']),
    )


def stir(backbone):
    for name, parameter in backbone.named_parameters():
        if 'lora_B' in name:
            nn.init.normal_(parameter, std=0.1)


@pytest.mark.parametrize(('name', 'options', 'count'), CASES)
def test_every_trainable_parameter_gets_a_gradient_and_only_adapters_train(
    build, name, options, count
):
    images = torch.randn(2, 3, 40, 32)
    backbone = build(name)
    before = outputs(backbone, images)
    add_lora(backbone, **options)
    for got, want in zip(outputs(backbone, images), before, strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    layers = lora_layers(backbone)
    assert len(layers) == count
    inside = tuple(tower.layers for tower in backbone.towers().values()) + ('text_model.head',)
    assert all(layer.removeprefix('model.').startswith(inside) for layer in layers)
    stir(backbone)
    outputs_ = outputs(backbone, images)
    text_only = options.get('towers') == ('text',)
    changed = -1 if text_only else 0
    assert (outputs_[changed] - before[changed]).abs().max() > 1e-3
    sum(output.square().sum() for output in outputs_).backward()
    trained = dict(backbone.named_parameters())
    for parameter_name, parameter in trained.items():
        assert parameter.requires_grad == ('lora_' in parameter_name)
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize(('name', 'options', 'count'), CASES)
def test_merging_keeps_outputs_and_restores_plain_names(build, name, options, count):
    images = torch.randn(1, 3, 32, 32)
    plain = set(build(name).state_dict())
    backbone = add_lora(build(name), **options)
    stir(backbone)
    want = outputs(backbone, images)
    merge_lora(backbone)
    assert set(backbone.state_dict()) == plain and not lora_layers(backbone)
    for got, expected in zip(outputs(backbone, images), want, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_the_product_is_the_papers(build):
    backbone = add_lora(build('siglip'), rank=3, alpha=5, targets=['fc1'])
    stir(backbone)
    layer = next(iter(lora_layers(backbone).values()))
    x = torch.randn(7, layer.in_features)
    a, b = layer.lora_A['default'].weight, layer.lora_B['default'].weight
    base = layer.get_base_layer()
    torch.testing.assert_close(layer(x), x @ (base.weight + 5 / 3 * b @ a).T + base.bias)


@pytest.mark.parametrize('name', ['siglip', 'clip'])
def test_weights_from_before_load_as_those_of_an_adapted_backbone(build, name):
    before = build(name)
    with torch.no_grad():
        for parameter in before.parameters():
            parameter.add_(0.01)
    after = nn.ModuleDict(dict(backbone=add_lora(build(name), rank=2)))
    state = {f'backbone.{key}': value for key, value in before.state_dict().items()}
    result = after.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert all('lora_' in key for key in result.missing_keys)
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(after['backbone'](images)[0], before(images)[0])
    saved = after.state_dict()
    add_again = nn.ModuleDict(dict(backbone=add_lora(build(name), rank=2)))
    add_again.load_state_dict(saved)


@pytest.mark.parametrize(
    ('name', 'options', 'sentence'),
    [
        ('siglip', dict(rank=0), 'lora.rank: expected 1 or more, found 0'),
        ('siglip', dict(rank=2, dropout=1.0), r'lora.dropout: .* found 1.0'),
        ('siglip', dict(rank=2, targets=['in_proj']), 'expected some of q_proj, .* found in_proj'),
        ('siglip', dict(rank=2, targets=[]), 'expected some of q_proj, .* found none'),
        ('siglip', dict(rank=2, targets=['head']), 'for the vision tower, found head'),
        (
            'siglip',
            dict(rank=2, targets=['head'], towers=['vision', 'text']),
            'for the vision tower, found head',
        ),
        ('clip', dict(rank=2, targets=['q_proj']), 'expected some of out_proj, .* found q_proj'),
        ('clip', dict(rank=2, targets=['out_proj'], towers=['text']), 'for the text tower'),
        ('clip', dict(rank=2, towers=['audio']), r"lora.towers: .* found \('audio',\)"),
        ('clip', dict(rank=2, towers=[]), r'lora.towers: .* found \(\)'),
    ],
)
def test_bad_options_get_one_sentence(build, name, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        add_lora(build(name), **options)


def test_refuses_a_second_set_and_what_an_encoder_lacks(build, monkeypatch):
    with pytest.raises(ValueError, match='has adapters already'):
        add_lora(add_lora(build('siglip'), rank=2), rank=2)
    reduced = build('siglip')
    reduced.keep_vision(pooling=False)
    with pytest.raises(ValueError, match='with its text tower, found a SigLIPBackbone that was re'):
        add_lora(reduced, rank=2, towers=('vision', 'text'))
    assert len(lora_layers(add_lora(reduced, rank=2))) == 6
    bare = build('clip')
    for towers in ({}, dict(vision=Tower('visual'))):
        monkeypatch.setattr(bare, 'towers', lambda towers=towers: towers)
        with pytest.raises(ValueError, match='in its vision tower, found a CLIPBackbone, which ha'):
            add_lora(bare, rank=2)


def test_adapters_side_by_side_work_one_at_a_time(build):
    images, backbone = torch.randn(1, 3, 32, 32), build('siglip')
    before = backbone(images)[0]
    add_lora(backbone, rank=2, adapters=('small', 'large'))
    for name, parameter in backbone.named_parameters():
        if 'lora_B.large' in name:
            nn.init.normal_(parameter)
    torch.testing.assert_close(backbone(images)[0], before)
    select_adapter(backbone, 'large')
    assert (backbone(images)[0] - before).abs().max() > 1e-2
    select_adapter(backbone, 'small')
    torch.testing.assert_close(backbone(images)[0], before)
    assert all(p.requires_grad for n, p in backbone.named_parameters() if 'lora_' in n)
    with pytest.raises(ValueError, match="expected one of .'large', 'small'., found 'medium'"):
        select_adapter(backbone, 'medium')
    with pytest.raises(ValueError, match='different names'):
        add_lora(build('siglip'), rank=2, adapters=('same', 'same'))
