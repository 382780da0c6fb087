import pytest
import torch
from contracts.dense_method import ENCODERS, DenseMethodContract
from scipy.sparse.linalg import cg
from tiny_guides import tiny_guide
from torch.nn.functional import interpolate, normalize
from torch.testing import assert_close

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.backbones.trunk import Surroundings, View
from mmseg_siglip.models.dense import LPOSS
from mmseg_siglip.models.dense.lposs import cell_centres, filled
from mmseg_siglip.models.postprocessors import PixelPropagation
from mmseg_siglip.models.segmentors import SCLIPSegmentor

BOXES = [(0, 0, 24, 32), (8, 16, 24, 32)]


def method(**options):
    return LPOSS(tiny_guide(site='v', patch_size=4), **options)


class TestLPOSS(DenseMethodContract):
    cases = [(dict(type='lposs', guide=tiny_guide(site='v')), kind) for kind in ENCODERS]


@pytest.fixture
def clip(openai_file):
    return CLIPBackbone(openai_file, position_offset=0.0)


@pytest.fixture
def trunk(clip):
    images = torch.randn(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    text = normalize(torch.randn(5, 48, generator=torch.Generator().manual_seed(1)), dim=1)
    known = Surroundings([View(0, box) for box in BOXES], lambda: text)
    return clip.trunk(images, surroundings=known)


def scored(trunk, lposs):
    features = lposs(trunk)
    return lposs.score(trunk.cosines(features), features, trunk)


@torch.no_grad()
def test_first_scores_are_of_values_with_residual_and_ffn(trunk):
    x, block = trunk.input(-1), trunk.blocks[-1]
    y = x + block.out(trunk.qkv(-1, x)[2])
    y = y + block.ffn(y)
    clip = trunk.encoder
    wanted = (clip.norm(y) @ clip.model.visual.proj)[:, 1:].mT.unflatten(2, trunk.grid)
    wanted = interpolate(wanted, size=(6, 8), mode='bilinear')
    assert_close(method()(trunk), wanted)


@pytest.mark.parametrize('neighbours', [5, 30, 400])
@torch.no_grad()
def test_equals_the_formula(trunk, neighbours):
    """Pair by pair, and each word solved alone by SciPy."""
    lposs = method(neighbours=neighbours)
    found = scored(trunk, lposs)
    features = lposs.guide(trunk.pixels).double()
    assert features.shape[-2:] == (6, 8)
    nodes, centres = [], []
    for window, (top, left, *_) in zip(features, BOXES, strict=True):
        for row in range(6):
            for column in range(8):
                nodes.append(normalize(window[:, row, column], dim=0))
                centres.append((top + 4 * row + 2, left + 4 * column + 2))
    count = len(nodes)
    s = torch.zeros(count, count, dtype=torch.float64)
    for i in range(count):
        cosines = torch.stack([nodes[i] @ other for other in nodes])
        for j in cosines.argsort(descending=True)[:neighbours].tolist():
            apart = sum((a - b) ** 2 for a, b in zip(centres[i], centres[j], strict=True)) ** 0.5
            s[i, j] = max(cosines[j].item(), 0) ** 3 * torch.exp(torch.tensor(-0.01 * apart))
    w = (s + s.T).fill_diagonal_(0)
    degree = w.sum(1)
    degree[degree == 0] = 1
    matrix = torch.eye(count) - 0.95 * w / (degree[:, None] * degree).sqrt()
    y = trunk.cosines(lposs(trunk)).permute(1, 0, 2, 3).flatten(1).double()
    x = [torch.from_numpy(cg(matrix.numpy(), row.numpy(), rtol=1e-6, maxiter=10)[0]) for row in y]
    wanted = torch.stack(x).reshape(5, 2, 6, 8).transpose(0, 1).float()
    assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_one_word_is_the_same_alone(trunk):
    lposs = method(neighbours=9)
    features = lposs(trunk)
    cosines = trunk.cosines(features)
    together = lposs.score(cosines, features, trunk)
    for i in range(5):
        alone = lposs.score(cosines[:, i : i + 1], features, trunk)
        assert_close(alone, together[:, i : i + 1])


@torch.no_grad()
def test_no_more_windows_at_a_time_than_a_batch_holds(clip, monkeypatch):
    images, lposs, seen = torch.randn(3, 3, 24, 32), method(), []
    views = [View(0, (0, 8 * i, 24, 32)) for i in range(3)]

    def mix(q, k, v, trunk):
        seen.append(len(v))
        return v

    monkeypatch.setattr(lposs, 'mix', mix)
    whole, some = (
        lposs(clip.trunk(images, surroundings=Surroundings(views, batch=batch)))
        for batch in (None, 2)
    )
    assert seen == [3, 2, 1]
    assert_close(some, whole, atol=1e-5, rtol=1e-4)


def test_places_are_centres_in_the_image(trunk):
    found = cell_centres(trunk, (3, 4)).reshape(2, 3, 4, 2)
    assert found[0, 0, 0].tolist() == [4, 4] and found[0, 2, 3].tolist() == [20, 28]
    assert (found[1] - found[0]).reshape(-1, 2).unique(dim=0).tolist() == [[8, 16]]


@torch.no_grad()
def test_parity_fills_windows_up_with_black(clip):
    images = torch.randn(1, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    black = torch.zeros(1, 3, 24, 32)
    black[:, :, :20, :30] = clip.to_pixels(images)
    known = Surroundings([View(0, (0, 0, 20, 30))])
    trunk = clip.trunk(images, surroundings=known)
    assert_close(filled(trunk), clip.from_pixels(black), atol=1e-5, rtol=1e-4)
    by_hand = clip.trunk(clip.from_pixels(black))
    ours, theirs = method(), method(parity=True)
    assert_close(theirs(trunk), ours(by_hand), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(ours(trunk), ours(by_hand), atol=1e-2)


@pytest.mark.parametrize('site', ['trunk', 'head'])
@torch.no_grad()
def test_siglip_reads_each_patch_alone(siglip_folder, site):
    encoder = SigLIPBackbone(siglip_folder, site=site)
    image = torch.randn(1, 3, 32, 40)
    dense = encoder.dense(image, attention=LPOSS(tiny_guide(site='v')))
    if site == 'head':
        assert_close(dense, encoder.dense(image, attention='vanilla', site='trunk'))
    assert dense.shape[-2:] == (4, 5)


@torch.no_grad()
def test_constant_pictures_and_one_patch(clip):
    text = normalize(torch.randn(1, 48), dim=1)
    for images in (torch.zeros(2, 3, 16, 16), torch.randn(1, 3, 8, 8)):
        views = [View(0, (0, 0, *images.shape[-2:])) for _ in images]
        trunk = clip.trunk(images, surroundings=Surroundings(views, lambda: text))
        lposs = LPOSS(tiny_guide(site='v'))
        assert scored(trunk, lposs).isfinite().all()
    assert_close(scored(trunk, lposs), trunk.cosines(lposs(trunk)))  # nothing to spread from


@torch.no_grad()
def test_torch_has_nothing_to_say(trunk, recwarn):
    torch.set_warn_always(True)
    try:
        scored(trunk, method())
    finally:
        torch.set_warn_always(False)
    assert not [warning for warning in recwarn if 'parse' in str(warning.message)]


@torch.no_grad()
def test_lposs_plus_in_a_segmentor(openai_file):
    model = SCLIPSegmentor(
        dict(pretrained=openai_file),
        ['cat', 'sky'],
        templates='plain',
        attention=dict(type='lposs_plus', guide=tiny_guide(site='v'), pixels=dict(radius=2)),
        test_cfg=dict(crop_size=(24, 32), stride=(16, 24)),
    ).eval()
    images = [torch.randn(3, 33, 45), torch.randn(3, 24, 40)]
    (first, second), (alone,) = model.predict(images), model.predict(images[:1])
    assert torch.equal(first.pred_sem_seg.data, alone.pred_sem_seg.data)
    assert second.pred_sem_seg.data.shape == (1, 24, 40)
    before = model._forward(images[:1])[0]
    seen = next(model._look(images[:1], [None]))
    context = model._context(seen, seen.size)
    (wanted,) = PixelPropagation(radius=2)(None, before[None], context)
    assert_close(model._refined(seen, seen.size, context)(0, 33), wanted)
    assert (wanted - before).abs().max() > 1e-3


def test_bad_input():
    with pytest.raises(ValueError, match='neighbours of 1 or more and alpha in .* found 0 and'):
        method(neighbours=0)
