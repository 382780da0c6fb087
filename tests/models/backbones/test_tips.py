"""TIPS v2 against transformers' own model."""

import pytest
import torch
from contracts.encoder import EncoderContract
from safetensors.torch import load_file, save_file
from tiny_encoders import TIPS_CONFIG, tips_model
from transformers.models.tipsv2.tokenization_tipsv2 import Tipsv2Tokenizer

from mmseg_siglip.models.backbones import TIPSBackbone, build_encoder


@pytest.fixture(scope='module')
def stock():
    return tips_model()


@pytest.fixture(scope='module')
def folder(tips_folder):
    return tips_folder


class TestTIPS(EncoderContract):
    kind = TIPSBackbone

    @pytest.fixture(scope='class')
    def source(self, folder):
        return folder

    @pytest.fixture(scope='class')
    def description(self, folder):
        return dict(config=folder)

    def pooled_text(self, projected, real):
        """The mean of what is no padding."""
        return torch.stack([row[mask].mean(0) for row, mask in zip(projected, real, strict=True)])


@pytest.fixture(scope='module')
def backbone(folder):
    return TIPSBackbone(folder)


def check_images(backbone, stock, size):
    images = torch.rand(2, 3, *size)
    out = stock.vision_model(images)
    prefix = 1 + stock.config.vision_config.num_register_tokens
    assert backbone.num_prefix == prefix
    torch.testing.assert_close(backbone.encode_image(images), out.pooler_output)
    dense = backbone.dense(images, attention='vanilla')
    torch.testing.assert_close(dense.flatten(2).transpose(1, 2), out.last_hidden_state[:, prefix:])


@pytest.mark.parametrize('size', [(32, 32), (40, 72), (64, 16)])
@torch.no_grad()
def test_images_equal_transformers(backbone, stock, size):
    check_images(backbone, stock, size)


@pytest.mark.parametrize('change', [dict(use_swiglu_ffn=True), dict(num_register_tokens=0)])
@torch.no_grad()
def test_every_architecture(change):
    stock = tips_model(**change)
    backbone = TIPSBackbone(
        config=dict(TIPS_CONFIG, vision_config=TIPS_CONFIG['vision_config'] | change)
    )
    backbone.model.load_state_dict(stock.state_dict())
    check_images(backbone, stock, (24, 40))
    adaptable = backbone.towers()['vision'].adaptable.values()
    assert all(backbone.blocks()[0].layer.get_submodule(path) for path in adaptable)


@torch.no_grad()
def test_text_equals_transformers(backbone, stock, folder):
    texts = ['a photo of the cat', 'sky']
    tokenizer = Tipsv2Tokenizer.from_pretrained(folder)
    batch = tokenizer(texts, padding='max_length', max_length=64, return_tensors='pt')
    expected = stock.get_text_features(**batch).pooler_output
    torch.testing.assert_close(backbone.encode_text(texts), expected)
    torch.testing.assert_close(backbone.encode_text(['A photo of the CAT', 'Sky']), expected)
    with pytest.raises(ValueError, match="expected a prompt of at least one token, found ''"):
        backbone.encode_text(['sky', ''])


@torch.no_grad()
def test_logits_equal_transformers(backbone, stock, folder):
    images, texts = torch.rand(2, 3, 32, 32), ['a cat', 'sky', 'grass']
    batch = Tipsv2Tokenizer.from_pretrained(folder)(texts, padding=True, return_tensors='pt')
    expected = stock(pixel_values=images, **batch).logits_per_image
    vectors = (backbone.encode_image(images), backbone.encode_text(texts))
    image, text = (torch.nn.functional.normalize(x, dim=-1) for x in vectors)
    torch.testing.assert_close(
        backbone.logit_scale * image @ text.T, expected, rtol=1e-4, atol=1e-3
    )
    with pytest.raises(ValueError, match='logit_bias: expected 0, as TIPS has none, found -10'):
        backbone.set_logit(scale=1.0, bias=-10.0)


def test_images_are_not_normalised(backbone):
    assert backbone.mean == (0, 0, 0) and backbone.std == (255, 255, 255)
    assert backbone.image_size == (32, 32) and backbone.patch_size == 8


@torch.no_grad()
def test_the_authors_way_of_reading_patches_by_hand(backbone, stock):
    images, vision = torch.rand(1, 3, 32, 32), stock.vision_model
    x = backbone.forward_intermediates(images, (1,), prefix=True, stop_early=True)[1][0]
    layer = vision.encoder.layer[-1]
    value = layer.attention.attention.value(layer.norm1(x))
    x = x + layer.attention.output.dense(value) * layer.layer_scale1.lambda1
    x = x + layer.mlp(layer.norm2(x)) * layer.layer_scale2.lambda1
    expected = vision.layernorm(x)[0, 2:]
    torch.testing.assert_close(backbone.dense(images)[0].flatten(1).T, expected)


@pytest.mark.parametrize('names', ['published', 'own'])
@torch.no_grad()
def test_a_bare_file_without_the_temperature(backbone, folder, stock, tmp_path, names):
    state = load_file(f'{folder}/model.safetensors') if names == 'published' else stock.state_dict()
    state.pop('temperature')
    save_file(state, tmp_path / 'x.safetensors')
    again = build_encoder(str(tmp_path / 'x.safetensors'), config=folder)
    assert again.logit_scale == pytest.approx(1 / stock.config.temperature_init_value)
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again.dense(images), backbone.dense(images))
    with pytest.raises(ValueError, match='no configuration of a tipsv2 model'):
        build_encoder(str(tmp_path / 'x.safetensors'))


@pytest.mark.parametrize(
    ('change', 'found'),
    [
        (dict(lost='vision_encoder.norm.bias'), '1 are missing, first vision_model.layernorm.bias'),
        (dict(added='head.bias'), '1 are unknown, first head.bias'),
    ],
)
def test_weights_are_neither_invented_nor_ignored(folder, tmp_path, change, found):
    state = load_file(f'{folder}/model.safetensors')
    state.pop(change.get('lost'), None)
    if 'added' in change:
        state[change['added']] = torch.ones(1)
    save_file(state, tmp_path / 'x.safetensors')
    with pytest.raises(ValueError, match=f'expected all weights of a tipsv2 model, {found}'):
        build_encoder(str(tmp_path / 'x.safetensors'), config=folder)
