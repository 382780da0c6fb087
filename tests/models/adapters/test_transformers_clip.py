import shutil

import open_clip
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from mmseg_siglip.models.adapters.transformers_clip import open_clip_config
from mmseg_siglip.models.backbones import CLIPBackbone, build_encoder

TEXT = dict(hidden_size=64, intermediate_size=128, num_attention_heads=2, num_hidden_layers=2)
VISION = dict(TEXT, intermediate_size=256, num_hidden_layers=3, image_size=32, patch_size=8)


@pytest.mark.parametrize('activation', ['quick_gelu', 'gelu'])
@torch.no_grad()
def test_same_features_as_transformers(tmp_path, activation):
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=dict(TEXT, hidden_act=activation, eos_token_id=49407),
        vision_config=dict(VISION, hidden_act=activation),
        projection_dim=48,
    )
    stock = CLIPModel(config).eval()
    for parameter in stock.parameters():
        parameter += 0.05 * torch.randn_like(parameter)
    stock.save_pretrained(tmp_path)
    backbone = CLIPBackbone(str(tmp_path))
    images = torch.randn(2, 3, 32, 32)
    expected = stock.get_image_features(images).pooler_output
    torch.testing.assert_close(backbone.encode_image(images), expected, atol=1e-5, rtol=1e-4)
    texts = ['a photo of a cat.', 'sky']
    tokens = open_clip.get_tokenizer('ViT-B-16')(texts)
    expected = stock.get_text_features(tokens).pooler_output
    torch.testing.assert_close(backbone.encode_text(texts), expected, atol=1e-5, rtol=1e-4)
    assert backbone.logit_scale == pytest.approx(stock.logit_scale.exp().item())


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(hidden_act='relu'), 'expected hidden_act quick_gelu or gelu, found'),
        (dict(layer_norm_eps=1e-6), 'expected layer_norm_eps 1e-5, found'),
    ],
)
def test_what_open_clip_cannot_express(change, message):
    config = CLIPConfig(text_config=TEXT, vision_config=dict(VISION, **change))
    with pytest.raises(ValueError, match=message):
        open_clip_config(config)


@pytest.fixture(scope='module')
def stock():
    torch.manual_seed(0)
    return CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=48)).eval()


@pytest.mark.parametrize('name', ['model.safetensors', 'pytorch_model.bin', 'weights.pth'])
@torch.no_grad()
def test_a_file_beside_its_configuration(stock, tmp_path, name):
    stock.save_pretrained(tmp_path)
    if not name.endswith('safetensors'):
        (tmp_path / 'model.safetensors').unlink()
        state = stock.state_dict()
        state['vision_model.embeddings.position_ids'] = torch.arange(17)[None]  # as old files have
        torch.save(state, tmp_path / name)
    backbone = build_encoder(str(tmp_path / name))
    assert type(backbone) is CLIPBackbone
    images = torch.randn(2, 3, 32, 32)
    expected = stock.get_image_features(images).pooler_output
    torch.testing.assert_close(backbone.encode_image(images), expected, atol=1e-5, rtol=1e-4)


def test_a_file_without_its_configuration(stock, tmp_path):
    stock.save_pretrained(tmp_path / 'whole')
    path = shutil.copy(tmp_path / 'whole/model.safetensors', tmp_path)
    for config, found in ((None, None), ('{"model_type": "siglip"}', 'siglip')):
        if config:
            (tmp_path / 'config.json').write_text(config)
        message = f"config.json of transformers' CLIP beside it, .* found model_type {found!r}"
        with pytest.raises(ValueError, match=message):
            build_encoder(str(path))
