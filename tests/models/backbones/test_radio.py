"""RADIO against transformers' own trunk and SigLIP, and its adaptor's head written out."""

import pytest
import torch
from contracts.parts import PartsContract
from tiny_dinos import HIDDEN, RADIO_HEAD, C, draw
from tiny_encoders import RADIO_CONFIG, SIGLIP_CONFIGS, TEXT, dino_model
from torch.nn.functional import gelu, layer_norm, linear
from torch.testing import assert_close
from transformers import AutoModel

from mmseg_siglip.models.backbones import RADIOBackbone, SigLIPBackbone, build_encoder

TEXTS = ['a photo of the cat', 'sky']


@pytest.fixture(scope='module')
def head():
    return draw(RADIO_HEAD, 7)


@pytest.fixture(scope='module')
def file(radio_file):
    return radio_file


@pytest.fixture(scope='module')
def parts(radio_folder, siglip_folder):
    return dict(radio=radio_folder, siglip=siglip_folder)


@pytest.fixture(scope='module')
def backbone(file, parts):
    return build_encoder(file, **parts)


class TestRADIO(PartsContract):
    kind = RADIOBackbone

    def pooled_text(self, projected, real):
        """The last token, of padding too."""
        return projected[:, -1]


def read(head, x):
    def norm(name, x):
        x = layer_norm(x, x.shape[-1:], head[f'{name}.0.weight'], head[f'{name}.0.bias'])
        return linear(gelu(x), head[f'{name}.2.weight'], head[f'{name}.2.bias'])

    x = linear(x, head['fc1.weight'], head['fc1.bias'])
    for i in range(2):
        x = x + norm(f'blocks.{i}', x)
    return norm('final', x)


@pytest.mark.parametrize('size', [(32, 32), (48, 48), (40, 72), (64, 16), (8, 8)])
@pytest.mark.parametrize('adaptor', ['siglip2-g', 'dino_v3'])
@torch.no_grad()
def test_patches_equal_transformers(file, parts, head, size, adaptor):
    backbone = RADIOBackbone(file, adaptor=adaptor, summary_token=1, **parts)
    head = {name: value * (2 if adaptor == 'dino_v3' else 1) for name, value in head.items()}
    pixels = torch.rand(2, 3, *size)
    out = dino_model(RADIO_CONFIG)(pixels)
    images = backbone.from_pixels(pixels)
    dense = backbone.dense(images).flatten(2).transpose(1, 2)
    assert_close(dense, read(head, out.features), atol=1e-4, rtol=1e-4)
    expected = read(head, out.last_hidden_state[:, 1])
    assert_close(backbone.encode_image(images), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_gated_trunk(file, siglip_folder):
    config = dict(RADIO_CONFIG, use_swiglu_ffn=True)
    backbone, radio = RADIOBackbone(file, radio=config, siglip=siglip_folder), dino_model(config)
    backbone.model.radio.load_state_dict(radio.state_dict(), strict=False)
    pixels = torch.rand(1, 3, 24, 40)
    tap = backbone.forward_intermediates(backbone.from_pixels(pixels), (2,), prefix=True)[1][0]
    assert_close(tap, radio(pixels).last_hidden_state, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_words_are_siglips(backbone, siglip_folder):
    siglip = SigLIPBackbone(siglip_folder)
    assert_close(backbone.encode_text(TEXTS), siglip.encode_text(TEXTS))
    assert_close(backbone.encode_text(['The CAT!']), siglip.encode_text(['the cat']))
    model = AutoModel.from_pretrained(siglip_folder)
    assert backbone.logit_scale == pytest.approx(model.logit_scale.exp().item())
    assert backbone.logit_bias == pytest.approx(model.logit_bias.item())


@torch.no_grad()
def test_plain_attention(file, parts):
    backbone = RADIOBackbone(file, **parts)
    images = torch.randn(1, 3, 32, 32)
    before = backbone.dense(images), backbone.encode_text(TEXTS)
    backbone.use_plain_attention()
    assert backbone.model.text_model.config._attn_implementation == 'eager'
    for found, expected in zip(
        (backbone.dense(images), backbone.encode_text(TEXTS)), before, strict=True
    ):
        assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ('lost', 'added', 'message'),
    [
        ('final.0.bias', {}, r'1 \(first final.0.bias\) missing'),
        ('fc1.weight', {}, 'expected fc1 and final.2, found fc1.bias'),
        (None, dict(extra=torch.ones(1)), r'1 \(first extra\) unknown'),
        (None, {'final.2.weight': torch.ones(C + 1, HIDDEN)}, r'shape \(33,\) for final.2.bias'),
    ],
)
def test_weights_are_neither_invented_nor_ignored(head, parts, tmp_path, lost, added, message):
    state = {name: value for name, value in head.items() if name != lost} | added
    state = {f'_heads.siglip2-g.{name}': value for name, value in state.items()}
    torch.save(state | {'base_model.x': torch.ones(1)}, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=message):
        RADIOBackbone(str(tmp_path / 'x.pth'), **parts)


def test_what_does_not_fit_is_refused(file, parts, dino_folder, tmp_path):
    text = dict(SIGLIP_CONFIGS['siglip'], text_config=dict(TEXT, projection_size=24))
    for wrong, message in (
        (
            dict(adaptor='clip'),
            "those in the file, siglip2-g, dino_v3; found 'clip'",
        ),
        (dict(summary_token=2), 'summary_token: expected 0 to 1, found 2'),
        (dict(radio=dino_folder), 'expected model_type radio, found .dinov2_with_registers'),
        (dict(siglip=text), "a text tower of the adaptor's 32 channels, found 24"),
    ):
        with pytest.raises(ValueError, match=message):
            RADIOBackbone(file, **parts | wrong)
    with pytest.raises(ValueError, match='expected an encoder of transformers'):
        RADIOBackbone(file, **parts).save_pretrained(tmp_path)
