"""DINOv3's own layout, out of transformers' model of random weights."""

import re

import pytest
import torch
from tiny_guides import GUIDES, tiny_guide
from torch.testing import assert_close

from mmseg_siglip.models.adapters.dinov3 import PERIODS, dinov3_config, to_transformers_dinov3
from mmseg_siglip.models.backbones import DinoTxtBackbone
from mmseg_siglip.models.guides import build_guide

NAMES = (
    ('embeddings.patch_embeddings', 'patch_embed.proj'),
    ('embeddings.register_tokens', 'storage_tokens'),
    ('embeddings.', ''),
    ('model.layer.', 'blocks.'),
    ('attention.o_proj', 'attn.proj'),
    ('layer_scale1.lambda1', 'ls1.gamma'),
    ('layer_scale2.lambda1', 'ls2.gamma'),
)
PLAIN = (('mlp.up_proj', 'mlp.fc1'), ('mlp.down_proj', 'mlp.fc2'))
GATED = (('mlp.gate_proj', 'mlp.w1'), ('mlp.up_proj', 'mlp.w2'), ('mlp.down_proj', 'mlp.w3'))


def released(model):
    """Its weights as the release has them; keys have a bias, which is masked."""
    state = {}
    for name, value in model.state_dict().items():
        for ours, theirs in (*NAMES, *(GATED if model.config.use_gated_mlp else PLAIN)):
            name = name.replace(ours, theirs)
        state[name] = value.clone()
    width = model.config.hidden_size
    for i in range(model.config.num_hidden_layers):
        q, k, v = (f'blocks.{i}.attention.{part}_proj' for part in 'qkv')
        qkv = f'blocks.{i}.attn.qkv'
        state[f'{qkv}.weight'] = torch.cat([state.pop(f'{part}.weight') for part in (q, k, v)])
        if model.config.query_bias:
            biases = (state.pop(f'{q}.bias'), torch.randn(width), state.pop(f'{v}.bias'))
            state[f'{qkv}.bias'] = torch.cat(biases)
            ones = torch.ones(width)
            state[f'{qkv}.bias_mask'] = torch.cat([ones, 0 * ones, ones])
    state['mask_token'] = state['mask_token'][0]
    state[PERIODS] = 1 / model.rope_embeddings.inv_freq
    state |= {f'local_cls_norm.{kind}': torch.randn(width) for kind in ('weight', 'bias')}
    return state


@torch.no_grad()
@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(use_gated_mlp=True, hidden_act='silu'),
        dict(query_bias=False, value_bias=False, num_register_tokens=0),
        dict(rope_theta=50.0),
    ],
    ids=['plain', 'gated', 'no biases', 'other periods'],
)
def test_a_release_is_transformers_model(options, tmp_path):
    guide, file = tiny_guide('DINOv3Guide', **options), tmp_path / 'dinov3_vits16.pth'
    state = released(guide.model)
    assert not any(re.search('layer_scale|_proj|register', name) for name in state)
    torch.save(state, file)
    found = build_guide(str(file))
    assert type(found) is type(guide)
    for size in ((32, 32), (24, 40)):
        x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
        assert_close(found(x), guide(x), atol=1e-5, rtol=0)
    for name in GUIDES['DINOv3Guide']:
        if name != 'image_size':
            assert getattr(found.model.config, name) == getattr(guide.model.config, name)


@torch.no_grad()
def test_under_dino_txt(dino_txt, tmp_path):
    images = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    plain = DinoTxtBackbone(**dino_txt)
    torch.save(released(plain.model.dino), tmp_path / 'dinov3.pth')
    found = DinoTxtBackbone(dino_txt['pretrained'], dino=str(tmp_path / 'dinov3.pth'))
    assert_close(found.dense(images), plain.dense(images), atol=1e-5, rtol=0)


def test_half_precision_periods_are_those_of_one_number():
    state = released(tiny_guide('DINOv3Guide').model)
    assert dinov3_config(state | {PERIODS: state[PERIODS].bfloat16()})['rope_theta'] == 100


def test_what_is_no_such_file(tmp_path):
    state = released(tiny_guide('DINOv3Guide').model)
    mask = 'blocks.1.attn.qkv.bias_mask'

    def load(state):
        torch.save(state, tmp_path / 'dinov3.pth')
        return build_guide(str(tmp_path / 'dinov3.pth'))

    for sentence, other in (
        ('powers of one number, found', {PERIODS: state[PERIODS].flip(0)}),
        ('expected heads of 20 channels by rope_embed.periods, found 32', {PERIODS: torch.ones(5)}),
        (r'blocks\.1\.attn\.qkv\.bias: expected .* alone', {mask: torch.ones(96)}),
        ('expected finite weights, found 96 of 96', {mask: torch.full((96,), torch.nan)}),
        ('1 are unknown, first extra', {'extra': torch.ones(1)}),
    ):
        with pytest.raises(ValueError, match=rf'dinov3\.pth: .*{sentence}'):
            load(state | other)
    del state[mask]
    with pytest.raises(ValueError, match='found one of keys'):
        to_transformers_dinov3(state)
    state['blocks.1.attn.qkv.bias'][32:64] = 0
    to_transformers_dinov3(state)
    del state['norm.weight']
    with pytest.raises(ValueError, match=r'dinov3\.pth: .* 1 are missing, first norm.weight'):
        load(state)
