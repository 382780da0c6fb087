import pytest
import torch
from contracts.dense_method import ENCODERS, DenseMethodContract
from tiny_guides import tiny_guide
from torch.nn.functional import interpolate, normalize

from mmseg_siglip.models.backbones.trunk import Surroundings, Trunk, View
from mmseg_siglip.models.dense import ProxyCLIP, Stitched
from mmseg_siglip.models.dense import correlation as correlations
from mmseg_siglip.models.segmentors.parts import build_backbone

DINO, DINOV2 = tiny_guide(), tiny_guide('DINOv2Guide')


class TestStitched(DenseMethodContract):
    cases = [(dict(type='stitched', guide=DINO), kind) for kind in ENCODERS]


class TestStitchedFiner(DenseMethodContract):
    cases = [(dict(type='stitched', guide=DINOV2), 'clip')]
    finer = 2


@pytest.fixture(scope='module')
def clip(openai_file):
    return build_backbone(dict(pretrained=openai_file))


def image(*size):
    return torch.randn(3, *size, generator=torch.Generator().manual_seed(3))


def windows_of(clip, x, boxes):
    crops = [x[:, t : t + h, left : left + w] for t, left, h, w in boxes]
    surroundings = Surroundings([View(0, box) for box in boxes])
    return Trunk(clip, torch.stack(crops), surroundings=surroundings)


def spliced(maps, boxes, grid, side):
    total, count = torch.zeros(maps.shape[1], *grid), torch.zeros(grid)
    for cells, (top, left, height, width) in zip(maps, boxes, strict=True):
        rows = slice(top // side, (top + height) // side)
        columns = slice(left // side, (left + width) // side)
        total[:, rows, columns] += cells
        count[rows, columns] += 1
    return total / count


@torch.no_grad()
@pytest.mark.parametrize(('guide', 'side'), [(DINO, 8), (DINOV2, 4)])
def test_it_is_the_formula(clip, guide, side, monkeypatch):
    x, boxes = image(40, 56), [(t, left, 24, 32) for t in (0, 16) for left in (0, 24)]
    trunk, grid = windows_of(clip, x, boxes), (40 // side, 56 // side)
    seen = normalize(guide(clip.to_pixels(trunk.images)), dim=1)
    f = normalize(spliced(seen, boxes, grid, side).flatten(1).T, dim=1)
    v = trunk.last.qkv()[2][:, :, 1:].transpose(2, 3).flatten(1, 2).unflatten(2, (3, 4))
    v = interpolate(spliced(v, boxes, (5, 7), 8)[None], size=grid, mode='bilinear')
    logits = 3 * (f @ f.T - 1.2 * (f @ f.T).mean())
    mixed = logits.masked_fill(logits < 0, -torch.inf).softmax(1) @ v[0].flatten(1).T
    y = clip.model.visual.transformer.resblocks[-1].attn.out_proj(mixed)
    wanted = (clip.norm(y) @ clip.model.visual.proj).T.unflatten(1, grid)
    torch.testing.assert_close(Stitched(guide)(trunk)[0], wanted, atol=1e-4, rtol=1e-3)
    monkeypatch.setattr(correlations, 'CHUNK_BYTES', 4 * len(f) * 3)
    torch.testing.assert_close(Stitched(guide)(trunk)[0], wanted, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_of_one_window_it_is_proxyclip(clip):
    x = image(24, 40)
    found = Stitched(DINO)(windows_of(clip, x, [(0, 0, 24, 40)]))
    torch.testing.assert_close(found, clip.dense(x[None], attention=ProxyCLIP(DINO)))
