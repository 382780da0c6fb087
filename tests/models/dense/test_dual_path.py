"""GEM and CLIP Surgery, against plain loops on a stock open_clip model in float64."""

import copy

import pytest
import torch
import torch.nn.functional as F
from contracts.dense_method import ENCODERS, DenseMethodContract
from sc_clip_oracle import outputs

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.dense import build_method

TRUNKS = [kind for kind in ENCODERS if 'head' not in kind]
GRID = (5, 8)


class TestGEM(DenseMethodContract):
    cases = [('gem', kind) for kind in TRUNKS]


class TestCLIPSurgery(DenseMethodContract):
    cases = [('clip_surgery', kind) for kind in TRUNKS]


@pytest.fixture(scope='module')
def backbone(openai_file):
    return CLIPBackbone(openai_file).requires_grad_(False)


@pytest.fixture
def image():
    return torch.randn(3, 40, 64, generator=torch.Generator().manual_seed(0))


def gem_heads(normed, q, k, v, iterations, temperature):
    """One head after another, (N, d) each."""
    mixed = []
    t = temperature or normed.norm(dim=1).mean() / q.shape[2] ** 0.5
    for head in range(len(q)):
        maps = []
        for u in (v[head], k[head], q[head]):
            u = u / u.norm(dim=1, keepdim=True)
            for _ in range(iterations):
                u = (t * u @ u.T).softmax(1) @ u
                u = u / u.norm(dim=1, keepdim=True)
            maps.append((t * u @ u.T).softmax(1))
        mixed.append(sum(a @ v[head] for a in maps) / 3)
    return torch.stack(mixed)


def surgery_heads(normed, q, k, v):
    return (v @ v.transpose(1, 2) / v.shape[2] ** 0.5).softmax(2) @ v


def second_path(clip, image, blocks, mix):
    clip = copy.deepcopy(clip).double()
    visual = clip.visual
    x = outputs(clip, image, GRID)
    first = len(x) - blocks
    path = x[first - 1]
    for i in range(first, len(x)):
        block = visual.transformer.resblocks[i]
        normed = block.ln_1(x[i - 1])
        qkv = F.linear(normed, block.attn.in_proj_weight, block.attn.in_proj_bias)
        heads = block.attn.num_heads
        q, k, v = (part.unflatten(1, (heads, -1)).transpose(0, 1) for part in qkv.chunk(3, 1))
        mixed = mix(normed, q, k, v).transpose(0, 1).flatten(1)
        path = path + block.attn.out_proj(mixed)
    return (visual.ln_post(path) @ visual.proj)[1:].T.unflatten(1, GRID).float()


@torch.no_grad()
@pytest.mark.parametrize(('iterations', 'temperature'), [(1, None), (0, None), (2, 20.0)])
def test_gem_equals_the_formula(backbone, tiny_clip, image, iterations, temperature):
    options = dict(iterations=iterations, temperature=temperature)
    method = dict(type='gem', blocks=2, **options)
    found = backbone.dense(torch.stack([image, image.flip(2)]), attention=method)
    for one, own in zip((image, image.flip(2)), found, strict=True):
        expected = second_path(tiny_clip, one, 2, lambda *x: gem_heads(*x, **options))
        torch.testing.assert_close(own, expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_surgery_equals_the_formula(backbone, tiny_clip, image):
    found = backbone.dense(image[None], attention=dict(type='clip_surgery', blocks=2))[0]
    expected = second_path(tiny_clip, image, 2, surgery_heads)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize('name', ['gem', 'clip_surgery'])
def test_six_blocks_are_all_where_there_are_three(backbone, image, name):
    six = backbone.dense(image[None], attention=name)
    assert torch.equal(six, backbone.dense(image[None], attention=dict(type=name, blocks=3)))
    assert not torch.equal(six, backbone.dense(image[None], attention=dict(type=name, blocks=2)))


@pytest.mark.parametrize('name', ['gem', 'clip_surgery'])
def test_bad_input(siglip_folder, name):
    with pytest.raises(ValueError, match='blocks: expected 1 or more, found 0'):
        build_method(dict(type=name, blocks=0))
    with pytest.raises(ValueError, match=f"site 'head': '{name}' works on 'trunk'"):
        SigLIPBackbone(siglip_folder).dense(torch.zeros(1, 3, 32, 32), attention=name, site='head')


def test_no_iteration_less_than_none():
    with pytest.raises(ValueError, match='iterations: expected 0 or more, found -1'):
        build_method(dict(type='gem', iterations=-1))
