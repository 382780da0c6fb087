import copy
from types import SimpleNamespace

import pytest
import torch
from contracts.dense_method import ENCODERS, DenseMethodContract
from sc_clip_oracle import average, cosines, last_block, mend, outputs, sharpen

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.dense import SFP, build_method, similarity
from mmseg_siglip.models.dense.sfp import attention_paid

BLOCKS = dict(similar_block=1, post_block=0, levels=(0, 1), threshold=0.5, cls_weight=0.2)


class TestSFP(DenseMethodContract):
    """At a threshold of 0 no small change moves a token's share by much: half precision is tested
    there, where cosines lie on both sides of it."""

    cases = [
        (dict(type='sfp', count=2, threshold=0.0 if 'siglip' in kind else 0.4), kind)
        for kind in ENCODERS
    ]


class TestSFPByNorm(DenseMethodContract):
    cases = [(dict(type='sfp', detector='l2', count=1, threshold=0.0), 'siglip')]


@pytest.fixture(scope='module')
def backbone(openai_file):
    return CLIPBackbone(openai_file).requires_grad_(False)


@pytest.fixture
def image():
    return torch.randn(3, 40, 64, generator=torch.Generator().manual_seed(3))


def full_map(trunk, block):
    """Mean over heads of the softmaxed map."""
    return trunk.attention(block).mean(1)


@torch.no_grad()
@pytest.mark.parametrize('chunk_bytes', [2**20, 4 * 2 * 2 * 41 * 7])
def test_what_cls_pays(backbone, image, monkeypatch, chunk_bytes):
    monkeypatch.setattr(similarity, 'CHUNK_BYTES', chunk_bytes)
    trunk = backbone.trunk(torch.stack([image, image.flip(1)]))
    paid, kept = attention_paid(trunk)
    wanted = full_map(backbone.trunk(trunk.images), 1)
    torch.testing.assert_close(paid, wanted[:, 0, 1:])
    torch.testing.assert_close(kept, wanted.diagonal(dim1=1, dim2=2)[:, 1:])


@torch.no_grad()
@pytest.mark.parametrize('site', ['trunk', 'head'])
def test_what_the_probe_pays(siglip_folder, image, site):
    encoder = SigLIPBackbone(siglip_folder, site=site)
    trunk = encoder.trunk(image[None])
    paid, kept = attention_paid(trunk)
    head = encoder.model.vision_model.head
    z = encoder.norm(encoder.trunk(image[None]).output(-1))
    row = head.attention(head.probe, z, z)[1][0]
    torch.testing.assert_close(paid, row)
    wanted = full_map(encoder.trunk(image[None]), 2)
    torch.testing.assert_close(kept, wanted.diagonal(dim1=1, dim2=2))


def find(detector, clip, x, backbone, image):
    if detector == 'l2':
        return set(x[-2][1:].norm(dim=1).topk(6).indices.tolist())
    attention = full_map(backbone.trunk(image[None]), 1)[0]
    paid = {j: 1.5 * attention[0, 1 + j] for j in range(len(attention) - 1)}
    suspects = [j for j, value in paid.items() if value > attention[1 + j, 1 + j]]
    return set(sorted(suspects, key=lambda j: -paid[j])[:6])


@torch.no_grad()
@pytest.mark.parametrize('detector', ['som', 'l2'])
def test_equals_the_formulas(backbone, tiny_clip, image, detector):
    clip, grid = copy.deepcopy(tiny_clip), (5, 8)
    x = outputs(clip, image, grid)
    outliers = find(detector, clip, x, backbone, image)
    assert len(outliers) == 6
    s = cosines(mend(x[1][1:], outliers, grid))
    s = torch.where(s < 0.5, 0, s)
    s_post = cosines(x[0][1:])
    p = average(mend(x[-2][1:], outliers, grid), s, 0.5)
    m = x[0] + x[1]
    y = last_block(clip, p, [sharpen(s), 'k', 'q']) + 0.2 * x[-2][0]
    y = y + last_block(clip, m[1:], [sharpen(s)]) + 0.2 * m[0]
    visual = clip.visual
    expected = (visual.ln_post(average(y, s_post, 0.5)) @ visual.proj).T.unflatten(1, grid)
    method = dict(type='sfp', detector=detector, count=6, **BLOCKS)
    found = backbone.dense(image[None], attention=method)[0]
    torch.testing.assert_close(found, expected.float(), atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_an_outlier_among_outliers(backbone, image):
    """All are: the published code has nothing left of the image but its levels."""
    method = dict(type='sfp', detector='l2', count=999)
    ours = backbone.dense(image[None], attention=method)
    theirs = backbone.dense(image[None], attention=dict(method, parity=True))
    assert ours.isfinite().all() and theirs.isfinite().all()
    assert theirs.flatten(2).std(2).max() < 1e-5 < ours.flatten(2).std(2).max()


def test_bad_input():
    with pytest.raises(ValueError, match="unknown detector 'dbscan'; expected one of som, l2, lof"):
        build_method(dict(type='sfp', detector='dbscan'))
    assert SFP().settings(24)['similar_block'] == 16


@pytest.mark.parametrize('name', ['sc_clip', 'sfp'])
def test_what_an_encoder_must_have(name):
    one_block = SimpleNamespace(num_layers=1, num_prefix=1)
    with pytest.raises(ValueError, match="expected at least 2 blocks, found 1; 'clearclip' needs"):
        build_method(name).check(one_block)
    bare = SimpleNamespace(num_layers=2, num_prefix=0, pooling_parts=list)
    with pytest.raises(ValueError, match="detector 'som' needs a CLS token or .* 'lof' and 'l2'"):
        build_method('sfp').check(bare)
    build_method(dict(type='sfp', detector='lof')).check(bare)
