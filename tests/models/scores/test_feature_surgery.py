import pytest
import torch
from torch.nn.functional import normalize

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.backbones.trunk import Surroundings
from mmseg_siglip.models.scores.feature_surgery import feature_surgery
from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.text.text_bank import embed_queries

WORDS = ['cat', 'sky, grass', 'road']


@pytest.fixture(params=['clip', 'siglip'])
def encoder(request):
    if request.param == 'clip':
        return CLIPBackbone(request.getfixturevalue('openai_file')).requires_grad_(False)
    return SigLIPBackbone(request.getfixturevalue('siglip_folder')).requires_grad_(False)


def draw(encoder, words, empty=None):
    generator = torch.Generator().manual_seed(0)
    text = normalize(torch.randn(words, encoder.embed_dim, generator=generator), dim=1)
    known = Surroundings(text=lambda: text, embed=lambda texts: {('',): empty}[tuple(texts)])
    trunk = encoder.trunk(torch.randn(2, 3, 32, 48, generator=generator), surroundings=known)
    features = encoder.features_of(trunk, encoder.method_for('value'))
    return text, trunk, features


def channel_by_channel(features, text, pooled):
    """As published, with all products of features and words at once: (N, Q, D)."""
    features, text = normalize(features, dim=1).double(), text.double()
    share = (2 * normalize(pooled.double(), dim=0) @ text.T).softmax(0)
    share = share / share.mean()
    products = features[:, None] * text * share[:, None]
    return (products - products.mean(1, keepdim=True)).sum(2)


@torch.no_grad()
def test_equals_channel_by_channel_in_each_window(encoder):
    text, trunk, features = draw(encoder, 5)
    found = feature_surgery(trunk.cosines(features), features, trunk)
    pooled = encoder.encode_image(trunk.images)
    for own, dense, vector in zip(found, features, pooled, strict=True):
        expected = channel_by_channel(dense.flatten(1).T, text, vector)
        torch.testing.assert_close(own.flatten(1).T.double(), expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(('words', 'empty'), [(1, None), (4, True)])
def test_the_empty_sentence(encoder, words, empty):
    nothing = normalize(torch.randn(1, encoder.embed_dim), dim=1)
    text, trunk, features = draw(encoder, words, nothing)
    found = feature_surgery(trunk.cosines(features), features, trunk, empty=empty)
    unit = normalize(features, dim=1)
    expected = torch.einsum('ndhw,qd->nqhw', unit, text - nothing)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_one_word_and_nobody_who_knows_the_empty_sentence(encoder):
    text, trunk, features = draw(encoder, 1)
    trunk = encoder.trunk(trunk.images, surroundings=Surroundings(text=lambda: text))
    with pytest.raises(ValueError, match='expected words, which a segmentor has'):
        feature_surgery(trunk.cosines(features), features, trunk)


def segmentor(path, words, **options):
    return SCLIPSegmentor(
        dict(pretrained=path),
        words,
        templates='single',
        test_cfg=dict(crop_size=(32, 32), stride=(16, 16), return_logits=True),
        **options,
    ).eval()


@torch.no_grad()
@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_in_a_segmentor_by_the_method_and_as_a_step(siglip_folder, precision):
    images = [torch.randn(3, 40, 56, generator=torch.Generator().manual_seed(0))]
    bare = dict(type='clip_surgery', feature_surgery=False)
    step = dict(attention=bare, score_steps=[dict(type='FeatureSurgery')])
    found = [
        segmentor(siglip_folder, WORDS, precision=precision, **options)(images)[0]
        for options in (dict(attention='clip_surgery'), step, dict(attention=bare))
    ]
    torch.testing.assert_close(found[0], found[1])
    assert (found[0] - found[2]).abs().max() > 1e-3
    torch.testing.assert_close(found[0].mean(0), torch.zeros(40, 56), atol=1e-5, rtol=0)


@torch.no_grad()
def test_one_word_in_a_segmentor(siglip_folder):
    images = [torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))]
    surgery, plain = (
        segmentor(siglip_folder, ['cat'], attention=dict(type='clip_surgery', feature_surgery=on))
        for on in (True, False)
    )
    unit = normalize(plain.extract_feat(images)[0], dim=0)
    text = embed_queries(plain.backbone, ['cat', ''], plain.templates)
    expected = torch.einsum('dhw,d->hw', unit, text[0] - text[1])
    found = surgery(images)[0][0, 4::8, 4::8]
    torch.testing.assert_close(found.mean(), expected.mean(), atol=1e-3, rtol=1e-2)
