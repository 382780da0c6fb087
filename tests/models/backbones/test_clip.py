import open_clip
import pytest
import torch
from contracts.encoder import EncoderContract
from oracles import clip_features
from torch.nn.functional import interpolate

from mmseg_siglip.models.backbones.clip import CLIPBackbone

TEXTS = ['a photo of a cat.', 'sky', 'a rendering of a rather long description of the sky']


@pytest.fixture(scope='module')
def backbone(openai_file):
    return CLIPBackbone(openai_file)


class TestCLIP(EncoderContract):
    kind = CLIPBackbone

    @pytest.fixture(scope='class')
    def source(self, openai_file):
        return openai_file

    @pytest.fixture(scope='class')
    def description(self, clip_config):
        return dict(arch=clip_config)


@torch.no_grad()
def test_pooled_outputs_equal_open_clip(backbone, tiny_clip):
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(backbone.encode_image(images), tiny_clip.encode_image(images))
    tokens = open_clip.get_tokenizer('ViT-B-16')(TEXTS)
    torch.testing.assert_close(backbone.encode_text(TEXTS), tiny_clip.encode_text(tokens))


@torch.no_grad()
def test_vanilla_patches_equal_open_clip(backbone, tiny_clip):
    images = torch.randn(2, 3, 32, 32)
    visual = tiny_clip.visual
    hidden = visual.forward_intermediates(images, normalize_intermediates=True)
    tokens = hidden['image_intermediates'][-1]
    expected = torch.einsum('bchw,cd->bdhw', tokens, visual.proj)
    torch.testing.assert_close(backbone.dense(images, attention='vanilla'), expected)


@torch.no_grad()
def test_taps_equal_open_clip(openai_file, tiny_clip):
    backbone = CLIPBackbone(openai_file, out_indices=(0, 1, 2))
    images = torch.randn(2, 3, 32, 32)
    expected = tiny_clip.visual.forward_intermediates(images)['image_intermediates']
    for tap, other in zip(backbone(images), expected, strict=True):
        torch.testing.assert_close(tap, other)


@pytest.mark.parametrize('attention', ['vanilla', 'maskclip', 'csa', 'clearclip', 'naclip'])
@pytest.mark.parametrize('size', [(32, 32), (24, 56), (64, 16)])
@torch.no_grad()
def test_dense_equals_the_formula(backbone, tiny_clip, attention, size):
    torch.manual_seed(0)
    images = torch.randn(2, 3, *size)
    dense = backbone.dense(images, attention=attention)
    dense = torch.nn.functional.normalize(dense, dim=1)
    expected = torch.stack([clip_features(tiny_clip, image, attention) for image in images])
    torch.testing.assert_close(dense, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_quick_gelu_is_not_gelu(backbone, tiny_clip, clip_config):
    """The activation leaves no trace in the weights, so a wrong one would pass unseen."""
    other = CLIPBackbone(arch=dict(clip_config, quick_gelu=False))
    other.model.load_state_dict(tiny_clip.state_dict())
    images = torch.randn(1, 3, 32, 32)
    assert (backbone.dense(images) - other.dense(images)).abs().max() > 1e-3


def test_pixel_statistics_are_openais(backbone):
    assert backbone.image_size == (32, 32) and backbone.patch_size == 8
    assert backbone.mean == pytest.approx((122.771, 116.746, 104.094), abs=1e-3)
    assert backbone.std == pytest.approx((68.501, 66.632, 70.323), abs=1e-3)


def test_text_parameters_leave_the_image_tower_out(backbone):
    names = backbone.text_parameters()
    assert 'token_embedding.weight' in names and not any('visual' in name for name in names)


@pytest.mark.parametrize('arch', ['RN50', 'ViT-B-16-SigLIP', 'coca_ViT-B-32', 'EVA02-B-16'])
def test_other_architectures_are_refused(arch):
    with pytest.raises(ValueError, match='expected a CLIP with a ViT and a causal text tower'):
        CLIPBackbone(arch=arch)


def test_nothing_given():
    with pytest.raises(ValueError, match='expected pretrained or arch, found neither'):
        CLIPBackbone()


@torch.no_grad()
@pytest.mark.parametrize(
    ('options', 'resampling'),
    [
        (dict(position_antialias=True, position_offset=0.0), dict(mode='bicubic', antialias=True)),
        (dict(position_mode='bilinear', position_offset=0.0), dict(mode='bilinear')),
    ],
)
def test_positions_are_resampled_as_told(openai_file, tiny_clip, options, resampling):
    """Only what the image's size asks for: a native one is left alone."""
    images = torch.zeros(1, 3, 24, 56)
    visual = tiny_clip.visual
    plane = visual.positional_embedding[1:].T.reshape(1, -1, 4, 4)
    position = interpolate(plane, size=(3, 7), **resampling)[0].flatten(1).T
    x = visual.class_embedding + visual.positional_embedding[0]
    expected = visual.ln_pre(torch.cat([x[None], position]))
    backbone = CLIPBackbone(openai_file, **options)
    torch.testing.assert_close(backbone.tokens(images).x[0], expected)
    native = torch.zeros(1, 3, 32, 32)
    assert torch.equal(backbone.tokens(native).x, CLIPBackbone(openai_file).tokens(native).x)
