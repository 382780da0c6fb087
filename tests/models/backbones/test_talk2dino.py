"""Talk2DINO against transformers' and open_clip's own models, and its projection by hand."""

import open_clip
import pytest
import torch
from contracts.parts import PartsContract
from tiny_dinos import TALK2DINO, draw
from tiny_encoders import CLIP_CONFIG, DINO_CONFIG, dino_model

from mmseg_siglip.models.backbones import Talk2DINOBackbone, build_encoder
from mmseg_siglip.text.text_bank import embed_queries

TEXTS = ['a photo of a cat', 'sky']


@pytest.fixture(scope='module')
def projection():
    return draw(TALK2DINO, 3)


@pytest.fixture(scope='module')
def file(talk2dino_file):
    return talk2dino_file


@pytest.fixture(scope='module')
def parts(dino_folder, openai_file):
    return dict(dino=dino_folder, clip=openai_file)


@pytest.fixture(scope='module')
def backbone(file, parts):
    return build_encoder(file, **parts)


class TestTalk2DINO(PartsContract):
    kind = Talk2DINOBackbone


@pytest.fixture(scope='module')
def dino():
    return dino_model(DINO_CONFIG)


def project(projection, vectors):
    hidden = vectors @ projection['linear_layer.weight'].T + projection['linear_layer.bias']
    return (
        hidden.tanh() @ projection['hidden_layers.0.weight'].T + projection['hidden_layers.0.bias']
    )


@pytest.mark.parametrize('size', [(32, 32), (40, 72), (64, 16)])
@torch.no_grad()
def test_patches_equal_transformers(backbone, dino, size):
    images = torch.randn(2, 3, *size)
    out = dino(images).last_hidden_state[:, 3:]
    torch.testing.assert_close(backbone.dense(images).flatten(2).transpose(1, 2), out)
    torch.testing.assert_close(backbone.encode_image(images), out.mean(1))


@torch.no_grad()
def test_swiglu(file, openai_file):
    backbone = Talk2DINOBackbone(
        file,
        dino=dict(DINO_CONFIG, use_swiglu_ffn=True),
        clip=openai_file,
    )
    dino = dino_model(DINO_CONFIG, use_swiglu_ffn=True)
    backbone.model.dino.load_state_dict(dino.state_dict())
    images = torch.randn(2, 3, 24, 40)
    expected = dino(images).last_hidden_state[:, 3:]
    torch.testing.assert_close(backbone.dense(images).flatten(2).transpose(1, 2), expected)
    adaptable = backbone.towers()['vision'].adaptable.values()
    assert all(backbone.blocks()[0].layer.get_submodule(path) for path in adaptable)


@torch.no_grad()
def test_words_by_hand(backbone, projection, tiny_clip):
    clip = tiny_clip.encode_text(open_clip.get_tokenizer('ViT-B-16')(TEXTS))
    torch.testing.assert_close(backbone.encode_text(TEXTS), project(projection, clip))


@torch.no_grad()
def test_templates_are_averaged_before_the_projection(backbone, projection, tiny_clip):
    words, templates = ['cat', 'red star', 'cat'], ['a photo of the {}.', 'the {} in the sky.']
    tokenizer = open_clip.get_tokenizer('ViT-B-16')
    means = [
        tiny_clip.encode_text(tokenizer([template.format(word) for template in templates])).mean(0)
        for word in words
    ]
    expected = torch.nn.functional.normalize(project(projection, torch.stack(means)), dim=-1)
    found = embed_queries(backbone, words, templates, batch_size=3)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    late = backbone.encode_text([template.format('cat') for template in templates])
    late = torch.nn.functional.normalize(late, dim=-1).mean(0)
    assert torch.cosine_similarity(late, expected[0], dim=0) < 0.9999


def test_statistics_and_scale(backbone, tiny_clip):
    assert backbone.mean == pytest.approx((123.675, 116.28, 103.53))
    assert backbone.std == pytest.approx((58.395, 57.12, 57.375))
    assert backbone.logit_scale == pytest.approx(tiny_clip.logit_scale.exp().item())
    with pytest.raises(ValueError, match='expected 0, as this Talk2DINO has none'):
        backbone.set_logit(scale=1.0, bias=1.0)


def test_random_weights():
    backbone = Talk2DINOBackbone(dino=DINO_CONFIG, clip=CLIP_CONFIG)
    assert backbone.embed_dim == 32 and backbone.num_prefix == 3


@pytest.mark.parametrize(
    ('lost', 'added', 'message'),
    [
        ('hidden_layers.0.bias', {}, r'1 \(first hidden_layers.0.bias\) missing'),
        (None, dict(extra=torch.ones(1)), r'1 \(first extra\) unknown'),
        (
            None,
            {'linear_layer.weight': torch.ones(32, 40)},
            r'expected shape \(32, 48\) for linear_layer.weight, found \(32, 40\)',
        ),
    ],
)
def test_weights_are_neither_invented_nor_ignored(
    projection, parts, tmp_path, lost, added, message
):
    state = {name: value for name, value in projection.items() if name != lost}
    torch.save(state | added, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=message):
        Talk2DINOBackbone(str(tmp_path / 'x.pth'), **parts)


def test_other_models_are_refused(file, parts, siglip_folder, tmp_path):
    with pytest.raises(ValueError, match="expected model_type dinov2_with_registers, found 'sigl"):
        Talk2DINOBackbone(file, **parts | dict(dino=siglip_folder))
    with pytest.raises(ValueError, match='expected an encoder of transformers'):
        Talk2DINOBackbone(file, **parts).save_pretrained(tmp_path)
