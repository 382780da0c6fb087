"""SCRA in each window, SCGA over all windows of an image."""

import pytest
import torch
from contracts.dense_method import ENCODERS, DenseMethodContract, images
from torch.nn.functional import normalize
from toy_methods import Half, ToyGuide

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.backbones.trunk import Surroundings, View
from mmseg_siglip.models.dense import SCGA, build_method, similarity
from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.models.windows.grid import Windows

REDUCED = dict(type='scra', reduced=True)


class TestSCRA(DenseMethodContract):
    cases = [('scra', kind) for kind in ENCODERS] + [(REDUCED, 'siglip')]


class TestSCGA(DenseMethodContract):
    cases = [
        ('scga', 'clip'),
        ('scga', 'siglip head'),
        ('scga', 'tips'),
        (dict(type='scga', method='naclip'), 'pe'),
    ]


@pytest.fixture(scope='module')
def backbone(openai_file):
    return CLIPBackbone(openai_file).requires_grad_(False)


@torch.no_grad()
@pytest.mark.parametrize('reduced', [False, True])
def test_scra_equals_one_head_after_another(backbone, tiny_clip, reduced):
    picture = images((40, 56))[0][None]
    found = backbone.dense(picture, attention=dict(type='scra', reduced=reduced))
    block, visual = tiny_clip.visual.transformer.resblocks[-1], tiny_clip.visual
    x = backbone.trunk(picture).input(-1)
    normed = block.ln_1(x)
    o = block.attn(normed, normed, normed, need_weights=False)[0][0]
    v = normed[0] @ block.attn.in_proj_weight[256:].T + block.attn.in_proj_bias[256:]
    heads, parts = block.attn.num_heads, []
    width = 128 // heads
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        z = 10 * normalize(o[:, part], dim=1) @ normalize(o[:, part], dim=1).T
        weights = torch.where(z < 0, 0, z.exp())
        parts.append(weights / weights.sum(1, keepdim=True) @ v[:, part])
    y = block.attn.out_proj(torch.cat(parts, dim=1))
    if not reduced:
        y = y + x[0]
        y = y + block.mlp(block.ln_2(y))
    expected = (visual.ln_post(y[1:]) @ visual.proj).T.reshape(1, -1, 5, 7)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def scga_by_hand(maps, boxes, grid, patch):
    """Windows that begin at multiples of the patch, cell after cell, in float64."""
    cells = {}
    for window, (top, left, *_) in zip(maps.double(), boxes, strict=True):
        for i in range(window.shape[1]):
            for j in range(window.shape[2]):
                place = (top // patch + i, left // patch + j)
                cells.setdefault(place, []).append(window[:, i, j])
    f = torch.stack(
        [torch.stack(cells[i, j]).mean(0) for i in range(grid[0]) for j in range(grid[1])]
    )
    s = normalize(f, dim=1) @ normalize(f, dim=1).T
    z = 10 * (s - s.mean())
    weights = torch.where(z < 0, 0, z.exp())
    shared = weights / weights.sum(1, keepdim=True) @ f
    return shared.T.reshape(1, -1, *grid).float()


@torch.no_grad()
@pytest.mark.parametrize('batch', [None, 1, 4])
@pytest.mark.parametrize('chunk_bytes', [2**20, 4 * 63 * 5])
def test_scga_equals_one_cell_after_another(backbone, monkeypatch, batch, chunk_bytes):
    monkeypatch.setattr(similarity, 'CHUNK_BYTES', chunk_bytes)
    image = images((56, 72))[0]
    windows = Windows.of((56, 72), dict(mode='slide', crop_size=(24, 40), stride=(16, 16)))
    crops = torch.stack(list(windows.crops(image)))
    known = Surroundings(views=[View(0, box) for box in windows.boxes], batch=batch)
    found = backbone.dense(crops, attention=dict(type='scga', method=REDUCED), surroundings=known)
    maps = torch.cat([backbone.dense(crop[None], attention=REDUCED) for crop in crops])
    expected = scga_by_hand(maps, windows.boxes, (7, 9), 8)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_mean_is_one_images(siglip_folder):
    """In a segmentor, beside others, and its output has the image's size."""
    model = SCLIPSegmentor(
        dict(pretrained=siglip_folder),
        ['cat', 'sky'],
        templates='plain',
        attention='scga',
        test_cfg=dict(crop_size=(32, 32), stride=(16, 16), window_batch=2),
    ).eval()
    batch = images((40, 56), (48, 48))
    together = model(batch)
    for image, found in zip(batch, together, strict=True):
        assert found.shape == (2, *image.shape[-2:])
        torch.testing.assert_close(model([image])[0], found, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_images_of_an_encoder_alone_are_no_windows_of_one(backbone):
    batch = torch.stack(images((40, 56), (40, 56)))
    words = Surroundings(text=lambda: torch.eye(backbone.embed_dim))
    for known in (None, words):
        found = backbone.dense(batch, attention='scga', surroundings=known)
        alone = [backbone.dense(image[None], attention='scga') for image in batch]
        torch.testing.assert_close(found, torch.cat(alone))


@torch.no_grad()
def test_a_constant_image_and_one_patch(backbone):
    for size in ((48, 64), (8, 8), (8, 16)):
        for name in ('scra', 'scga'):
            assert backbone.dense(torch.zeros(1, 3, *size), attention=name).isfinite().all()


@torch.no_grad()
def test_a_guided_method_inside(backbone):
    batch = images((40, 56))[0][None]
    method = SCGA(method=ToyGuide())
    assert method.prepares and method.reads == 'v' and method.sites == ('trunk',)
    known = Surroundings(views=[View(0, (0, 0, 40, 56), method.prepare(batch[0]))])
    with pytest.raises(ValueError, match=r'a cell for each patch, \(5, 7\), found \(10, 14\)'):
        backbone.dense(batch, attention=method, surroundings=known)


def test_bad_input(siglip_folder):
    for kind in ('scga', 'clip_surgery', ToyGuide(scope='image')):
        with pytest.raises(ValueError, match='method: expected one that sees one window at a time'):
            SCGA(method=kind)
    with pytest.raises(ValueError, match="'value_cls' needs a CLS token"):
        SigLIPBackbone(siglip_folder).method_for(dict(type='scga', method='value_cls'))
    with pytest.raises(ValueError, match="site 'head': 'scga' works on 'trunk'"):
        encoder = SigLIPBackbone(siglip_folder, site='head')
        encoder.dense(torch.zeros(1, 3, 32, 32), attention=SCGA(method=Half()))
    assert build_method('scga').whole
