"""CLIPtrase: its parts against loops, and the vote of clusters in a segmentor."""

from types import SimpleNamespace

import pytest
import torch
from contracts.dense_method import ENCODERS, DenseMethodContract, images
from mmseg.structures import SegDataSample
from torch.nn.functional import cosine_similarity, interpolate, normalize

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.backbones.planes import whole
from mmseg_siglip.models.backbones.trunk import Surroundings
from mmseg_siglip.models.dense import build_method, similarity
from mmseg_siglip.models.dense.cliptrase import CLUSTERS, VARIANTS, correlation
from mmseg_siglip.models.dense.cluster_pixels import cluster_map
from mmseg_siglip.models.segmentors import SCLIPSegmentor

LOOSE = dict(type='cliptrase', eps=0.5, least=2)


class TestCLIPtrase(DenseMethodContract):
    cases = [(dict(type='cliptrase', vote=False), kind) for kind in ENCODERS]


def by_clusters(cosines, place, count):
    """The mean cosines (Q, H, W) of each pixel's cluster, cluster by cluster."""
    found = cosines.clone()
    for cluster in range(count):
        inside = place == cluster
        found[:, inside] = cosines[:, inside].double().mean(1, keepdim=True).float()
    return found


@pytest.fixture(scope='module')
def encoders(openai_file, siglip_folder):
    return dict(clip=CLIPBackbone(openai_file), siglip=SigLIPBackbone(siglip_folder))


def around(encoder, count=4, **options):
    text = torch.randn(count, encoder.embed_dim, generator=torch.Generator().manual_seed(1))
    return Surroundings(text=lambda: normalize(text, dim=1), **options)


def trunk_of(encoder, size=(32, 48), batch=2, **options):
    return encoder.trunk(
        torch.stack(images(*[size] * batch)), surroundings=around(encoder, **options)
    )


@torch.no_grad()
def test_three_maps_added_up(encoders):
    q, k, v = torch.randn(3, 1, 2, 7, 4, generator=torch.Generator().manual_seed(0))
    expected = sum((x @ x.transpose(-1, -2) / 2).softmax(-1) for x in (q, k, v)) @ v
    method = build_method('cliptrase')
    torch.testing.assert_close(method.mix(q, k, v, None), expected)
    assert method.residual and method.ffn


@pytest.mark.parametrize('kind', ['clip', 'siglip'])
@torch.no_grad()
def test_correlation_equals_the_loops(encoders, kind):
    trunk = trunk_of(encoders[kind])
    parts = trunk.qkv(-2, trunk.output(-3))
    heads, tokens = parts[0].shape[1:3]
    mean = torch.zeros(2, tokens, tokens)
    for part in parts:
        for head in range(heads):
            x = part[:, head]
            mean += cosine_similarity(x[:, :, None], x[:, None], dim=-1) / (3 * heads)
    patches = mean[:, trunk.prefix :, trunk.prefix :]
    common = mean[:, :1, 1:] if kind == 'clip' else patches.mean(1, keepdim=True)
    expected = (patches - common).clamp(min=0)
    torch.testing.assert_close(correlation(trunk), expected, atol=1e-5, rtol=1e-4)
    assert expected.any() and not expected.all()


@torch.no_grad()
def test_shares_are_counted_cluster_by_cluster(encoders):
    trunk, owner = trunk_of(encoders['clip'], batch=1), torch.tensor([0, 1, 1, 2])
    method = build_method(LOOSE)
    cosines = trunk.cosines(build_method('csa')(trunk))[0]
    group = torch.arange(24) // 8
    points = (group[:, None] == group).float() + 0.01 * torch.rand(24, 24)
    labels = owner[interpolate(cosines[None], size=(32, 48), mode='bilinear')[0].argmax(0)]
    place = cluster_map(points, method.clusters(points), trunk.grid, (32, 48))
    assert place.unique().tolist() == [0, 1, 2]
    (shares,) = whole([method.merged(cosines, points, owner, 8)])
    for cluster in place.unique():
        own = labels[place == cluster]
        for word, kind in enumerate(owner):
            expected = (own == kind).float().mean()
            assert shares[word][place == cluster].sub(expected).abs().max() < 1e-6


@pytest.mark.parametrize('rows', [1, 2**30])
@torch.no_grad()
def test_scores_are_averaged_cluster_by_cluster(encoders, rows, monkeypatch):
    monkeypatch.setattr(similarity, 'CHUNK_BYTES', rows)
    trunk = trunk_of(encoders['clip'], batch=1)
    method = build_method(dict(LOOSE, vote='scores'))
    cosines = trunk.cosines(build_method('csa')(trunk))[0]
    pixels = interpolate(cosines[None], size=(32, 48), mode='bilinear')[0]
    group = torch.arange(24) // 8
    points = (group[:, None] == group).float() + 0.01 * torch.rand(24, 24)
    place = cluster_map(points, method.clusters(points), trunk.grid, (32, 48))
    assert place.unique().tolist() == [0, 1, 2]
    (found,) = whole([method.merged(cosines, points, torch.arange(4), 8)])
    torch.testing.assert_close(found, by_clusters(pixels, place, 3))
    method.eps = 1e-9
    (found,) = whole([method.merged(cosines, points, torch.arange(4), 8)])
    torch.testing.assert_close(found, pixels, atol=1e-6, rtol=0)


@pytest.mark.parametrize('parity', [True, False])
@pytest.mark.parametrize('vote', [True, 'scores'])
@torch.no_grad()
def test_words_of_the_whole_image_are_likelier(encoders, parity, vote):
    """Published: cosines of a patch times those of CLS behind the very same block."""
    encoder, options = encoders['clip'], dict(eps=1e-9, least=2, vote=vote)
    trunk = trunk_of(encoder)
    tokens = build_method(dict(type='cliptrase', vote=False))(trunk)
    cosines = trunk.cosines(tokens)
    if parity:
        cls = normalize(encoder.norm(tokens.x[:, 0]) @ encoder.model.visual.proj, dim=1)
        cosines = cosines * (cls @ trunk.text.T)[:, :, None, None]
    else:
        image = normalize(encoder.encode_image(trunk.images), dim=1)
        cosines = cosines + (image @ trunk.text.T)[:, :, None, None]
    wanted = interpolate(cosines, size=(32, 48), mode='bilinear')
    method = build_method(dict(type='cliptrase', prior=True, parity=parity, **options))
    found = whole(method(trunk))
    if vote == 'scores':
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    assert torch.equal(found.argmax(1), wanted.argmax(1))
    plain = whole(build_method(dict(type='cliptrase', **options))(trunk))
    assert not torch.equal(found.argmax(1), plain.argmax(1))


@pytest.mark.parametrize('kind', ['clip', 'siglip'])
@pytest.mark.parametrize('options', VARIANTS.values(), ids=VARIANTS)
@torch.no_grad()
def test_variants_on_any_encoder(encoders, kind, options):
    """With clusters by chance or without, a batch as its elements alone."""
    encoder, batch = encoders[kind], images((33, 47), (33, 47))
    method = encoder.method_for(dict(LOOSE) | dict(options) | dict(eps=0.5, least=2))

    def found(images):
        trunk = encoder.trunk(torch.stack(images), surroundings=around(encoder))
        return whole(encoder.features_of(trunk, method))

    together = found(batch)
    assert together.isfinite().all()
    for image, one in zip(batch, together, strict=True):
        torch.testing.assert_close(found([image])[0], one)


@torch.no_grad()
def test_without_a_cluster_labels_stay(encoders):
    trunk = trunk_of(encoders['clip'])
    method = build_method(dict(type='cliptrase', eps=1e-9, least=2))
    features = build_method(dict(type='cliptrase', vote=False))(trunk)
    up = interpolate(trunk.cosines(features), size=(32, 48), mode='bilinear')
    shares = whole(method(trunk))
    assert torch.equal(shares.argmax(1), up.argmax(1))
    assert torch.equal(shares.sum(1), torch.ones(2, 32, 48)) and shares.unique().tolist() == [0, 1]


@pytest.mark.parametrize('kind', ['clip', 'siglip'])
@pytest.mark.parametrize('size', [(32, 48), (33, 47), (8, 8)])
@torch.no_grad()
def test_batch_equals_singles(encoders, kind, size):
    encoder, method, batch = encoders[kind], build_method(LOOSE), images(*[size] * 3)

    def shares(images):
        trunk = encoder.trunk(torch.stack(images), surroundings=around(encoder))
        return whole(encoder.features_of(trunk, method))

    together = shares(batch)
    assert together.shape[2:] == tuple(-(-side // 8) * 8 for side in size)
    for image, found in zip(batch, together, strict=True):
        torch.testing.assert_close(shares([image])[0], found)


@torch.no_grad()
def test_words_of_a_class_vote_together_but_for_parity(encoders):
    owner = (0, 1, 1, 0)
    trunk = trunk_of(encoders['clip'], vocabulary=SimpleNamespace(query_to_class=owner))
    ours, theirs = (
        whole(build_method(dict(LOOSE, parity=parity))(trunk)) for parity in (False, True)
    )
    assert torch.equal(ours[:, 0], ours[:, 3]) and torch.equal(ours[:, 1], ours[:, 2])
    assert not torch.equal(theirs[:, 0], theirs[:, 3])
    torch.testing.assert_close(theirs.sum(1), torch.ones(2, 32, 48))


@torch.no_grad()
def test_a_constant_image_and_one_word(encoders):
    encoder = encoders['clip']
    trunk = encoder.trunk(torch.zeros(1, 3, 24, 40), surroundings=around(encoder, 1))
    assert torch.equal(whole(build_method('cliptrase')(trunk)), torch.ones(1, 1, 24, 40))


def test_in_a_segmentor(openai_file):
    """Windows merge, a whole image has the labels of its one vote, nothing stands in the way."""
    options = dict(templates='plain', attention=LOOSE, logit_scale=20.0)
    model = SCLIPSegmentor(
        dict(pretrained=openai_file),
        ['cat', 'sky, grass', 'road'],
        test_cfg=dict(crop_size=(24, 32), stride=(16, 24), return_logits=True),
        **options,
    ).eval()
    batch = images((40, 56), (33, 45))
    together = [sample.seg_logits.data for sample in model.predict(batch)]
    for image, found in zip(batch, together, strict=True):
        alone = model.predict([image])[0].seg_logits.data
        torch.testing.assert_close(alone, found)
        assert found.isfinite().all()
    model.test_cfg = dict(model.test_cfg, mode='whole')
    (sample,) = model.predict(batch[:1], [SegDataSample()])
    known = Surroundings(text=lambda: model.text, vocabulary=model.vocabulary)
    with torch.no_grad():
        trunk = model.backbone.trunk(batch[0][None], surroundings=known)
        votes = whole(model.method(trunk))[0].argmax(0)
    assert torch.equal(sample.pred_sem_seg.data[0], torch.tensor([0, 1, 1, 2])[votes])


@pytest.mark.parametrize('options', [dict(eps=0), dict(least=0)])
def test_bad_input(options):
    with pytest.raises(ValueError, match='cliptrase: expected eps above 0 and least of at least 1'):
        build_method(dict(type='cliptrase', **options))


def test_variants_that_are_not_there(encoders):
    with pytest.raises(ValueError, match="expected vote True, False or 'scores', found 'labels'"):
        build_method(dict(type='cliptrase', vote='labels'))
    with pytest.raises(ValueError, match='expected prior with a vote'):
        build_method(dict(type='cliptrase', vote=False, prior=True))
    spec = dict(type='cliptrase', prior=True, parity=True)
    encoders['clip'].method_for(spec)
    with pytest.raises(ValueError, match='CLS token is its own vector, .* found a SigLIPBackbone'):
        encoders['siglip'].method_for(spec)


@pytest.mark.parametrize('side', CLUSTERS)
def test_defaults_are_near_what_is_published(side):
    points, published = torch.zeros((side // 16) ** 2, 1), CLUSTERS[side]
    assert abs(0.05 * len(points) ** 0.5 - published['eps']) <= 0.05 + 1e-9
    assert max(2, round(len(points) / 64)) == published['least']
