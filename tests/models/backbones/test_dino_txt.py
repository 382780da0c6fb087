"""dino.txt against transformers' DINOv3, and its head and text tower written out."""

import math

import open_clip
import pytest
import torch
from contracts.parts import PartsContract
from tiny_dinos import C, T
from tiny_encoders import DINO3_CONFIG, dino_model
from torch.nn.functional import gelu, layer_norm, linear, normalize, silu
from torch.testing import assert_close

from mmseg_siglip.models.backbones import DinoTxtBackbone, build_encoder

TEXTS = ['a photo of a cat', 'sky', 'a large red star in the grass']


@pytest.fixture(scope='module')
def state(dino_txt_file):
    return torch.load(dino_txt_file)


@pytest.fixture(scope='module')
def file(dino_txt_file):
    return dino_txt_file


@pytest.fixture(scope='module')
def parts(dino3_folder):
    return dict(dino=dino3_folder)


@pytest.fixture(scope='module')
def backbone(file, parts):
    return build_encoder(file, **parts)


class TestDinoTxt(PartsContract):
    kind = DinoTxtBackbone


def norm(state, name, x):
    return layer_norm(x, x.shape[-1:], state[f'{name}.weight'], state[f'{name}.bias'])


def affine(state, name, x):
    return linear(x, state[f'{name}.weight'], state.get(f'{name}.bias'))


def attend(state, name, x, heads, mask=0):
    """(N, C) of one row."""
    q, k, v = affine(state, f'{name}.qkv', x).chunk(3, -1)
    width = q.shape[-1] // heads
    parts = [slice(first, first + width) for first in range(0, q.shape[-1], width)]
    mixed = [(q[:, p] @ k[:, p].T / width**0.5 + mask).softmax(-1) @ v[:, p] for p in parts]
    return affine(state, f'{name}.proj', torch.cat(mixed, -1))


def head(state, x):
    for i in range(2):
        part = f'visual_model.head.blocks.{i}'
        y = attend(state, f'{part}.attn', norm(state, f'{part}.norm1', x), 4)
        x = x + state[f'{part}.ls1.gamma'] * y
        u = norm(state, f'{part}.norm2', x)
        y = silu(affine(state, f'{part}.mlp.w1', u)) * affine(state, f'{part}.mlp.w2', u)
        x = x + state[f'{part}.ls2.gamma'] * affine(state, f'{part}.mlp.w3', y)
    return norm(state, 'visual_model.head.ln_final', x)


def words(state, text):
    (tokens,) = open_clip.get_tokenizer('ViT-B-16')([text])
    part = 'text_model.backbone'
    x = state[f'{part}.token_embedding.weight'][tokens] + state[f'{part}.positional_embedding']
    mask = torch.full((77, 77), -torch.inf).triu(1)
    for i in range(2):
        block = f'{part}.blocks.{i}'
        u = norm(state, f'{block}.attention_norm', x)
        x = x + attend(state, f'{block}.attention', u, 1, mask)
        u = norm(state, f'{block}.ffn_norm', x)
        u = gelu(affine(state, f'{block}.feed_forward.fc1', u))
        x = x + affine(state, f'{block}.feed_forward.fc2', u)
    end = norm(state, f'{part}.ln_final', x)[tokens.argmax()]
    return affine(state, 'text_model.head.linear_projection', end)


@pytest.mark.parametrize('size', [(32, 32), (40, 72), (64, 16)])
@torch.no_grad()
def test_patches_by_hand(backbone, state, size):
    images = torch.randn(2, 3, *size)
    normed = dino_model(DINO3_CONFIG)(images).last_hidden_state
    expected = torch.stack([head(state, x)[3:] for x in normed])
    dense = backbone.dense(images).flatten(2).transpose(1, 2)
    assert_close(dense, expected, atol=1e-4, rtol=1e-4)
    assert_close(backbone.encode_image(images), expected.mean(1), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_taps_of_dino_equal_transformers(backbone):
    images, dino = torch.randn(2, 3, 40, 24), dino_model(DINO3_CONFIG)
    out = dino(images, output_hidden_states=True)
    taps = backbone.forward_intermediates(images, (0, 1, 2), prefix=True)[1]
    for tap, expected in zip(taps, (*out.hidden_states[1:3], out.last_hidden_state), strict=True):
        assert_close(tap, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_words_by_hand(backbone, state):
    whole = torch.stack([words(state, text) for text in TEXTS])
    assert_close(backbone.encode_text(TEXTS), whole[:, C:], atol=1e-4, rtol=1e-4)
    assert backbone.logit_scale == pytest.approx(math.exp(2))


@torch.no_grad()
def test_cosines_are_with_the_patches_half(backbone, state):
    images = torch.randn(1, 3, 32, 32)
    dense = normalize(backbone.dense(images)[0].flatten(1).T, dim=-1)
    found = dense @ normalize(backbone.encode_text(TEXTS), dim=-1).T
    x = head(state, dino_model(DINO3_CONFIG)(images).last_hidden_state[0])[3:]
    whole = torch.stack([words(state, text) for text in TEXTS])
    assert_close(found, normalize(x, dim=-1) @ normalize(whole[:, C:], dim=-1).T, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_gated_dino(file):
    config = dict(DINO3_CONFIG, use_gated_mlp=True, hidden_act='silu', key_bias=True)
    backbone, dino = DinoTxtBackbone(file, dino=config), dino_model(config)
    backbone.model.dino.load_state_dict(dino.state_dict())
    images = torch.randn(1, 3, 24, 40)
    tap = backbone.forward_intermediates(images, (2,), prefix=True)[1][0]
    assert_close(tap, dino(images).last_hidden_state, atol=1e-4, rtol=1e-4)
    adaptable = backbone.towers()['vision'].adaptable.values()
    assert all(backbone.blocks()[0].layer.get_submodule(path) for path in adaptable)


@pytest.mark.parametrize(
    ('lost', 'added', 'message'),
    [
        ('logit_scale', {}, r'1 \(first logit_scale\) missing'),
        ('text_model.backbone.positional_embedding', {}, "there is no 'text.positional_embedding'"),
        (None, dict(extra=torch.ones(1)), r'1 \(first extra\) unknown'),
        (
            None,
            {'text_model.backbone.blocks.0.attention.qkv.bias': torch.ones(3 * T)},
            r'1 \(first text.transformer.resblocks.0.attention.qkv.bias\) unknown',
        ),
        (
            None,
            {'visual_model.head.ln_final.weight': torch.ones(C + 1)},
            r'shape \(32,\) for head.ln_final.weight, found \(33,\)',
        ),
    ],
)
def test_weights_are_neither_invented_nor_ignored(state, tmp_path, lost, added, message):
    state = {name: value for name, value in state.items() if name != lost}
    torch.save(state | added, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=message):
        DinoTxtBackbone(str(tmp_path / 'x.pth'), dino=DINO3_CONFIG)


def test_other_models_are_refused(file, dino_folder):
    with pytest.raises(ValueError, match='expected model_type dinov3_vit, found .dinov2_with_reg'):
        DinoTxtBackbone(file, dino=dino_folder)
