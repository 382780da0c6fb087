"""ResCLIP: both ideas against loops that are written as the paper has them."""

import math
from types import SimpleNamespace

import pytest
import torch
from contracts.dense_method import ENCODERS, DenseMethodContract
from torch.nn.functional import interpolate, normalize
from torch.utils._python_dispatch import TorchDispatchMode

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.backbones.trunk import Surroundings
from mmseg_siglip.models.dense import build_method
from mmseg_siglip.models.dense.resclip import PUBLISHED
from mmseg_siglip.models.dense.semantic_feedback import (
    connected,
    feedback,
    patch_labels,
    region_rows,
)

LITTLE = dict(type='resclip', temp_thd=0.0, pamr=1, sfr=(1.5, 0.2))
"""Of what labels say, which rounding may change."""


class TestResCLIP(DenseMethodContract):
    cases = [
        *((LITTLE, kind) for kind in ENCODERS),
        (dict(type='resclip', host='sclip', temp_thd=0.0), 'clip'),
        (dict(type='resclip', host='clearclip', sfr=None), 'siglip head'),
        (dict(type='resclip', rcs=None, temp_thd=0.0, blocks=(0, -2)), 'tips'),
    ]


@pytest.fixture(scope='module')
def clip(openai_file):
    return CLIPBackbone(openai_file)


def scene(*grid, seed=0, count=3):
    return torch.randint(count, grid, generator=torch.Generator().manual_seed(seed))


def segment(a, b, steps):
    """The cells on the way between two, by whole numbers."""
    if not steps:
        return [a]
    return [
        tuple(
            (2 * (p * steps + (q - p) * k) + steps) // (2 * steps)
            for p, q in zip(a, b, strict=True)
        )
        for k in range(steps + 1)
    ]


def slow_rows(labels):
    """Steps 4 to 7, pair by pair, in float64."""
    h, w = labels.shape
    cells = [(y, x) for y in range(h) for x in range(w)]
    furthest = max(h, w, 2) - 1
    length = min(h * w, 31)
    length += 1 - length % 2
    kernel = [math.exp(-((k - length // 2) ** 2) / (2 * 25)) for k in range(length)]
    rows = []
    for a in cells:
        row = []
        for b in cells:
            apart = max(abs(a[0] - b[0]), abs(a[1] - b[1]))
            way = segment(a, b, max(h, w) - 1)
            whole = all(labels[cell] == labels[a] for cell in way)
            row.append(
                (labels[a] == labels[b]).item() * (1 if whole else math.exp(-apart / furthest))
            )
        blurred = []
        for i in range(len(row)):
            reach = [(k, i + k - length // 2) for k in range(length)]
            inside = sum(kernel[k] * row[j] for k, j in reach if 0 <= j < len(row))
            blurred.append(inside / sum(kernel))
        rows.append([value / (sum(blurred) + 1e-8) for value in blurred])
    return torch.tensor(rows)


@pytest.mark.parametrize('grid', [(4, 7), (6, 5), (1, 6), (1, 1)])
def test_regions_equal_the_loops(grid):
    labels = scene(*grid)
    torch.testing.assert_close(region_rows(labels), slow_rows(labels).float())


def test_regions_are_the_same_however_many_rows_at_a_time(monkeypatch):
    labels = scene(5, 8)
    whole = region_rows(labels)
    monkeypatch.setattr('mmseg_siglip.models.dense.semantic_feedback.CHUNK_BYTES', 1)
    assert torch.equal(region_rows(labels), whole)


def test_the_whole_way_counts_and_in_parity_its_beginning():
    labels = torch.tensor([[0, 0, 0, 1, 0, 0]])
    ours, theirs = (connected(labels, slice(None), parity=parity)[0, :, 0] for parity in (0, 1))
    assert ours[0].tolist() == [True, True, True, False, False, False]
    # 4 of 5 steps of the way of 4 cells: the places .8 1.6 2.4 3.2, of which 3 is on the bar.
    assert theirs[0].tolist() == [True, True, True, True, False, False]
    # The way from 2 to 4 is looked at in .4 .8: its bar lies at neither 2 nor 3 alone.
    assert not ours[2, 4] and theirs[1, 3] and not ours[1, 3]


@pytest.mark.parametrize('grid', [(4, 7), (5, 5)])
def test_ways_are_the_same_in_both_directions(grid):
    labels = scene(*grid, count=2)
    same = (labels.flatten() == labels.flatten()[:, None]).view(*grid, *grid)
    found = connected(labels, slice(None)) & same
    assert torch.equal(found, found.permute(2, 3, 0, 1)) and found.any() and not found.all()


def test_mask_has_nothing_for_prefixes_and_one_as_its_maximum():
    labels = torch.stack([scene(3, 4), torch.zeros(3, 4, dtype=torch.long)])
    mask = feedback(labels, 2)
    assert mask.shape == (2, 1, 14, 14)
    assert not mask[:, :, :2].any() and not mask[..., :2].any()
    torch.testing.assert_close(mask.amax((1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(feedback(labels[1:], 2), mask[1:])


def test_one_tensor_of_the_masks_size_is_held(monkeypatch):
    monkeypatch.setattr('mmseg_siglip.models.dense.semantic_feedback.CHUNK_BYTES', 1)
    made = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.untyped_storage().nbytes() >= 4 * 48**2:
                made.append(out.untyped_storage().data_ptr())
            return out

    with Watch():
        feedback(scene(6, 8)[None], 1)
    assert len(set(made)) == 1


def test_labels_of_patches_by_hand():
    cosines = torch.zeros(1, 3, 2, 3)
    cosines[0, 0], cosines[0, 2, :, 2] = 0.1, 0.9
    options = dict(patch=4, scale=10.0, iterations=0)
    images = torch.randn(1, 3, 8, 12)

    def labels(threshold, unsure, **more):
        return patch_labels(cosines, images, threshold=threshold, unsure=unsure, **options, **more)[
            0
        ].tolist()

    assert labels(0.0, 3) == [[0, 0, 2]] * 2
    assert labels(0.9, 3) == [[3, 3, 2]] * 2
    assert labels(0.9, 0) == [[0, 0, 2]] * 2
    assert labels(0.0, 3, owner=(0, 1, 1)) == [[0, 0, 1]] * 2


def test_of_several_labels_as_frequent_the_smallest():
    cosines = torch.tensor([0.0, 1.0, 1.0, 0.0]).view(1, 2, 1, 2).flip(1)
    found = patch_labels(
        interpolate(cosines, (1, 1)) * 0,
        torch.zeros(1, 3, 4, 4),
        patch=4,
        scale=1.0,
        threshold=0.0,
        unsure=2,
    )
    assert found.item() == 0


def slow_features(clip, image, text, host, rcs, sfr, blocks):
    """The whole method on one picture, with today's blocks and no chunks; parity apart."""
    trunk = clip.trunk(image)
    grid, n = trunk.grid, trunk.grid[0] * trunk.grid[1] + 1
    middle = torch.stack([trunk.attention(block) for block in blocks]).mean(0)
    x = trunk.input(-1)
    q, k, v = trunk.qkv(-1, x)
    block = trunk.blocks[-1]
    window = torch.zeros(n, n)
    for i in range(n - 1):
        for j in range(n - 1):
            dy, dx = i // grid[1] - j // grid[1], i % grid[1] - j % grid[1]
            window[i + 1, j + 1] = math.exp(-(dy * dy + dx * dx) / 50)

    def features(mask):
        total = 0
        for part in dict(sclip=(q, k), clearclip=(q,), naclip=(k,))[host]:
            z = part @ part.transpose(-1, -2) * part.shape[-1] ** -0.5
            if mask is not None:
                z = sfr[0] * ((1 - sfr[1]) * z + sfr[1] * mask)
            total = total + (z + window if host == 'naclip' else z).softmax(-1)
        y = block.out((rcs[0] * ((1 - rcs[1]) * total + rcs[1] * middle)) @ v)
        if host == 'sclip':
            y = x + y
            y = y + block.ffn(y)
        y = clip.norm(y[:, 1:]) @ clip.model.visual.proj
        return y.transpose(1, 2).unflatten(2, grid)

    if sfr is None:
        return features(None)
    cosines = torch.einsum('bdhw,qd->bqhw', normalize(features(None), dim=1), text)
    pixels = 20 * interpolate(cosines, size=image.shape[-2:], mode='bilinear')[0]
    best, labels = pixels.softmax(0).max(0)
    labels[best < 0.3] = len(text)
    patches = labels.unfold(0, 8, 8).unfold(1, 8, 8).flatten(2)
    rows = slow_rows(torch.mode(patches, dim=2).values).float()
    mask = torch.zeros(n, n)
    mask[1:, 1:] = rows / rows.max()
    return features(mask)


@pytest.mark.parametrize('host', ['sclip', 'clearclip', 'naclip'])
@pytest.mark.parametrize('sfr', [None, (1.8, 0.7)])
@torch.no_grad()
def test_features_equal_the_formula(clip, host, sfr):
    image = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(4))
    text = normalize(torch.randn(4, clip.embed_dim), dim=1)
    method = dict(
        type='resclip', host=host, rcs=(2.0, 0.4), sfr=sfr, temp_thd=0.3, blocks=(0, 1), pamr=0
    )
    found = clip.dense(
        image, attention=method, surroundings=Surroundings(text=lambda: text, logit_scale=20.0)
    )
    expected = slow_features(clip, image, text, host, (2.0, 0.4), sfr, (0, 1))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_without_both_ideas_it_is_its_host(clip):
    image = torch.randn(2, 3, 32, 48)
    for host in ('sclip', 'clearclip', 'naclip'):
        plain = clip.dense(image, attention=host)
        method = dict(type='resclip', host=host, rcs=None, sfr=None)
        torch.testing.assert_close(clip.dense(image, attention=method), plain)


@torch.no_grad()
def test_words_of_one_class_are_one_region_but_for_parity(clip):
    image = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    patches = clip.dense(image, attention='naclip').flatten(2)[0].T
    text = normalize(patches[[0, 7, 13, 20]] - patches.mean(0), dim=1)

    def dense(owner, **options):
        known = Surroundings(
            text=lambda: text,
            logit_scale=20.0,
            vocabulary=owner and SimpleNamespace(query_to_class=owner),
        )
        method = dict(type='resclip', temp_thd=0.0, blocks=(1,), pamr=0, **options)
        return clip.dense(image, attention=method, surroundings=known)

    one, own = dense((0,) * 4), dense(None)
    assert not torch.allclose(one, own)
    torch.testing.assert_close(dense((0, 1, 2, 3)), own)
    torch.testing.assert_close(dense((0,) * 4, parity=True), dense(None, parity=True))


@pytest.mark.parametrize('word', [1, 0])
@torch.no_grad()
def test_one_word_and_a_constant_image(clip, word):
    text = normalize(torch.randn(1, clip.embed_dim), dim=1)
    known = Surroundings(text=lambda: text)
    image = torch.full((1, 3, 24, 40), float(word))
    assert clip.dense(image, attention='resclip', surroundings=known).isfinite().all()


def test_no_block_runs_twice(clip, monkeypatch):
    runs, text = [], normalize(torch.randn(2, clip.embed_dim), dim=1)
    trunk = clip.trunk(torch.randn(1, 3, 24, 24), surroundings=Surroundings(text=lambda: text))
    run = trunk.run
    monkeypatch.setattr(
        trunk, 'run', lambda block, x, method=None: runs.append(block) or run(block, x, method)
    )
    clip.features_of(trunk, build_method('resclip'))
    assert runs == [0, 1, -1, -1]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(host='gem'), "expected host sclip, clearclip, naclip, found 'gem'"),
        (dict(rcs=(0, 0.3)), r'expected rcs None or a factor .* found \(0, 0.3\)'),
        (dict(sfr=(2.0, 1.3)), 'expected sfr None'),
        (dict(temp_thd=2), 'expected temp_thd in'),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        build_method(dict(type='resclip', **options))


def test_what_the_encoder_or_the_caller_lacks(clip, siglip_folder):
    with pytest.raises(ValueError, match=r'resclip: blocks: expected blocks from -3 to 2, found 5'):
        clip.method_for(dict(type='resclip', parity=True))
    with pytest.raises(ValueError, match='expected words, which a segmentor has'):
        SigLIPBackbone(siglip_folder).dense(torch.randn(1, 3, 24, 24), attention='resclip')


def test_published_settings_build():
    assert len(PUBLISHED) == 8
    for settings in PUBLISHED.values():
        assert build_method(settings['method']).rcs.tau == 2.0
        assert settings['logit_scale'] == 40
