import pytest
import torch
from contracts.dense_method import ENCODERS, DenseMethodContract, quarters
from tiny_guides import tiny_guide
from torch.nn.functional import interpolate, normalize
from torch.testing import assert_close

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.backbones.trunk import Surroundings, Trunk, View
from mmseg_siglip.models.dense import CorrCLIP
from mmseg_siglip.models.dense.corrclip import middle_blocks
from mmseg_siglip.models.guides import Guide

SIZE = (40, 56)


def method(**options):
    return CorrCLIP(tiny_guide(site='q+k', patch_size=4), **options)


class TestCorrCLIP(DenseMethodContract):
    cases = [(dict(type='corrclip', guide=tiny_guide(site='q+k')), kind) for kind in ENCODERS]


class Told(Guide):
    """A guide that gives what it is told."""

    channels = 3

    def __init__(self, features):
        super().__init__(torch.nn.Identity())
        self.features = features

    def forward(self, pixels):
        return self.features.expand(len(pixels), -1, -1, -1)


@pytest.fixture
def clip(openai_file):
    return CLIPBackbone(openai_file)


@pytest.fixture
def pictures():
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def dense(encoder, pictures, corr, regions):
    views = [View(i, (0, 0, *SIZE), regions=part) for i, part in enumerate(regions)]
    return encoder.dense(pictures, attention=corr, surroundings=Surroundings(views))


def naive(encoder, picture, corr, regions, parity):
    """One window of a CLIP whose sides its patches divide, pair by pair."""
    features = normalize(corr.guide(encoder.to_pixels(picture[None])).double(), dim=1)[0]
    (g, k), (h, w) = grid, own = features.shape[1:], (SIZE[0] // 8, SIZE[1] // 8)
    f = features.flatten(1).T
    labels = interpolate(regions[None, None].double(), size=grid, mode='nearest').flatten().tolist()
    labels = [int(label) for label in labels]
    names = sorted(set(labels))
    none = min(names) if parity else 0
    named = [name for name in names if name != none]
    if len(names) > 2 if parity else len(named) > 1:
        means = [
            normalize(f[[i for i, label in enumerate(labels) if label == name]].mean(0), dim=0)
            for name in named
        ]
        alike = [[float(a @ b) for b in means] for a in means]
        highest, groups = max(map(max, alike)), {name: name for name in named}
        for i, a in enumerate(named):
            for j, b in enumerate(named):
                if highest - alike[i][j] <= 0.2:
                    old, new = groups[b], groups[a]
                    groups = {x: new if y == old else y for x, y in groups.items()}
        labels = [1000 + groups[label] if label in groups else label for label in labels]
    cosines = f @ f.T
    weights = torch.zeros(g * k, g * k, dtype=torch.float64)
    for i in range(g * k):
        for j in range(g * k):
            if none in (labels[i], labels[j]):
                allowed = i == j or cosines[i, j] > cosines.mean()
            else:
                allowed = labels[i] == labels[j]
            weights[i, j] = (4 * cosines[i, j]).exp() if allowed else 0
    weights /= weights.sum(1, keepdim=True)

    trunk = encoder.trunk(picture[None].double())
    mean = sum(trunk.output(block) for block in corr.blocks or [0])
    total = 0
    for x in (trunk.input(-1), mean / len(corr.blocks or [0])):
        v = trunk.qkv(-1, x)[2][0, :, 1:].transpose(1, 2).reshape(1, -1, h, w)
        v = interpolate(v, size=grid, mode='bilinear').flatten(2)[0].T
        y = trunk.blocks[-1].out((weights @ v).unflatten(1, (2, -1)).transpose(0, 1)[None])
        total = total + (encoder.norm(y) @ encoder.model.visual.proj)[0]
    table = torch.tensor(labels, dtype=torch.float64).reshape(1, 1, g, k)
    coarse = interpolate(table, size=own, mode='nearest').flatten()
    values = coarse.unique()
    masks = torch.stack([coarse == value for value in values])[None]
    vectors = trunk.region_vectors(masks)[0]
    place = interpolate(coarse.reshape(1, 1, h, w), size=grid, mode='nearest').flatten()
    index = torch.stack([place == value for value in values]).long().argmax(0)
    total = total + 0.5 * vectors[index]
    return total.T.unflatten(1, grid).float()


@pytest.mark.parametrize('parity', [False, True])
@pytest.mark.parametrize('lowest', [0, 1])
@torch.no_grad()
def test_equals_the_formula(clip, pictures, parity, lowest):
    corr = method(parity=parity, blocks=[0, 1])
    regions = [quarters(pictures[0]) + lowest, torch.ones(SIZE, dtype=torch.long)]
    regions[1][10:30, 10:40] = lowest + 5
    found = dense(clip, pictures, corr, regions)
    clip.double()
    for picture, part, own in zip(pictures, regions, found, strict=True):
        assert_close(own, naive(clip, picture, corr, part, parity), atol=2e-4, rtol=1e-3)


@torch.no_grad()
def test_parity_differs_where_every_pixel_is_in_a_region(clip, pictures):
    regions = [quarters(picture) + 1 for picture in pictures]
    ours, theirs = (dense(clip, pictures, method(parity=p), regions) for p in (False, True))
    assert not torch.allclose(ours, theirs, atol=1e-3)
    regions = [part - 1 for part in regions]
    ours, theirs = (dense(clip, pictures, method(parity=p), regions) for p in (False, True))
    assert_close(ours, theirs)


def test_like_regions_become_one():
    near = torch.tensor([[1.0, 0, 0], [0.9, 0.4359, 0], [0, 0, 1], [0, 1, 0]])
    labels, near = torch.tensor([[3, 5, 8, 0], [4, 4, 4, 4]]), torch.stack([near, near])

    def merged(**options):
        return method(**options).merged(labels, near).tolist()

    assert merged() == [[9, 9, 10, 0], [4, 4, 4, 4]]
    assert merged(merge=0.05) == [[9, 10, 11, 0], [4, 4, 4, 4]]
    assert merged(merge=None) == labels.tolist()
    first = method(parity=True).merged(labels[:1, :3], near[:1, :3])
    assert first.tolist() == [[3, 9, 10]], 'the smallest label is none'


@pytest.mark.parametrize('regions', ['none', 'one', 'two', 'masks', 'no masks'])
@pytest.mark.parametrize('parity', [False, True])
@torch.no_grad()
def test_few_regions_and_a_constant_guide(clip, siglip_folder, pictures, regions, parity):
    whole = torch.ones(SIZE, dtype=torch.long)
    masks = torch.stack([whole == 1, torch.arange(SIZE[1]).expand(SIZE) < 20])
    kinds = {'none': 0 * whole, 'one': whole, 'two': whole + masks[1], 'masks': masks}
    part = kinds.get(regions, masks[:0])
    for encoder in (clip, SigLIPBackbone(siglip_folder, site='head')):
        for guide in (tiny_guide(site='q+k'), Told(torch.ones(1, 3, 5, 7))):
            found = dense(encoder, pictures, CorrCLIP(guide, parity=parity), [part, part])
            assert found.shape[-2:] == (5, 7) and found.isfinite().all()


@torch.no_grad()
def test_regions_side_by_side_of_either_form(clip, pictures):
    regions = [quarters(pictures[0]), torch.stack([quarters(pictures[1]) == 1])]
    found = dense(clip, pictures, method(), regions)
    for i, part in enumerate(regions):
        alone = dense(clip, pictures[i : i + 1], method(), [part])
        assert_close(found[i : i + 1], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ('count', 'blocks'),
    [(12, range(5, 10)), (24, range(10, 22)), (32, range(2, 30)), (6, range(2, 4)), (3, range(1))],
)
def test_middle_blocks(count, blocks):
    assert middle_blocks(count) == blocks
    for few in range(1, 6):
        assert 0 <= min(middle_blocks(few)) <= max(middle_blocks(few)) < few


@torch.no_grad()
def test_parts_that_are_off(clip, pictures):
    regions = [quarters(picture) for picture in pictures]
    alone = dense(clip, pictures, method(spatial=0.0, semantic=0.0), regions)
    spatial = dense(clip, pictures, method(semantic=0.0), regions)
    semantic = dense(clip, pictures, method(spatial=0.0), regions)
    total = dense(clip, pictures, method(), regions)
    assert_close(spatial + semantic - alone, total, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(alone, spatial, atol=1e-2)


def test_bad_input(clip, pictures):
    with pytest.raises(ValueError, match='expected the regions of the image: load them by'):
        clip.dense(pictures, attention=method())
    with pytest.raises(ValueError, match='expected finite numbers from Told, found NaN'):
        regions = [quarters(picture) for picture in pictures]
        dense(clip, pictures, CorrCLIP(Told(torch.full((1, 3, 5, 7), torch.nan))), regions)
    with pytest.raises(ValueError, match='corrclip: blocks: expected blocks from -3 to 2, found 7'):
        clip.method_for(dict(type='corrclip', guide=tiny_guide(), blocks=[7]))


@pytest.mark.parametrize('site', ['trunk', 'head'])
@torch.no_grad()
def test_no_block_runs_twice(siglip_folder, pictures, site, monkeypatch):
    encoder, ran = SigLIPBackbone(siglip_folder, site=site), []
    run = Trunk.run

    def counted(self, block, x, method=None):
        ran.extend([block] if self.encoder is encoder else [])
        return run(self, block, x, method)

    monkeypatch.setattr(Trunk, 'run', counted)
    dense(encoder, pictures, method(), [quarters(picture) for picture in pictures])
    assert ran == [0, 1, 2]


@torch.no_grad()
def test_no_block_is_projected_twice(clip, pictures, monkeypatch):
    """What runs beside the blocks sees the keys and values that these were run with."""
    regions, corr, runs = [quarters(picture) for picture in pictures], method(), []
    block = type(clip.trunk(pictures).blocks[0])
    project = block.qkv
    monkeypatch.setattr(block, 'qkv', lambda self, *given: runs.append(1) or project(self, *given))
    found = dense(clip, pictures, corr, regions)
    once = len(runs)
    monkeypatch.setattr(clip, 'open_for_regions', lambda trunk: None)
    assert torch.equal(dense(clip, pictures, corr, regions), found)
    assert len(runs) - once == once + len(clip.trunk(pictures).blocks) - 1
