import pytest
import torch
from contracts.dense_method import ENCODERS, DenseMethodContract
from tiny_guides import tiny_guide
from torch.nn.functional import interpolate, normalize

from mmseg_siglip.models.backbones.trunk import Surroundings, Trunk, View
from mmseg_siglip.models.dense import Trident
from mmseg_siglip.models.dense import trident as tridents
from mmseg_siglip.models.segmentors.parts import build_backbone

DINO, SAM = tiny_guide(), tiny_guide('SAMGuide')
SPEC = dict(type='trident', guide=DINO, sam=SAM)


def sam_grid(height, width):
    """Cells of the tiny SAM, of 64 pixels and patches of 8, that a picture fills."""
    filled = [max(1, int(side * 64 / max(height, width) + 0.5)) for side in (height, width)]
    return tuple(max(1, side // 8) for side in filled)


class TestTrident(DenseMethodContract):
    cases = [(SPEC, kind) for kind in ENCODERS]

    def grid_of(self, size, encoder):
        return sam_grid(*size)


class TestTridentByHalves(DenseMethodContract):
    cases = [(dict(SPEC, negative=False, sharpness=3.0, columns=2), 'clip')]

    def grid_of(self, size, encoder):
        rows, columns = sam_grid(size[0], -(-size[1] // 2))
        return rows, 2 * columns


@pytest.fixture(scope='module')
def clip(openai_file):
    return build_backbone(dict(pretrained=openai_file))


def image(*size):
    return torch.randn(3, *size, generator=torch.Generator().manual_seed(3))


def windows_of(clip, method, x, boxes):
    prepared = method.prepare(clip.to_pixels(x))
    views = [View(0, box, prepared) for box in boxes]
    crops = [x[:, t : t + h, left : left + w] for t, left, h, w in boxes]
    return Trunk(clip, torch.stack(crops), surroundings=Surroundings(views))


def naive(clip, x, boxes, sharpness, negative):
    """Window after window, cell after cell, in the order of the paper: (D, n_h, n_w)."""
    cells, grid = [], tuple(side // 8 for side in x.shape[-2:])
    seen = []
    for top, left, height, width in boxes:
        crop = x[:, top : top + height, left : left + width][None]
        f = normalize(DINO(clip.to_pixels(crop))[0].flatten(1).T, dim=1)
        seen.append((crop, f))
    mean = torch.stack([(f @ f.T).mean() for _, f in seen]).mean()
    total, count = torch.zeros(128, *grid), torch.zeros(grid)
    for (top, left, height, width), (crop, f) in zip(boxes, seen, strict=True):
        trunk = Trunk(clip, crop)
        logits = 3 * (f @ f.T - 1.2 * mean)
        weights = logits.masked_fill(logits < 0, -torch.inf).softmax(1)
        v = trunk.last.qkv()[2][:, :, 1:]
        y = trunk.last.out(weights @ v)[0].T.unflatten(1, (height // 8, width // 8))
        rows, columns = slice(top // 8, (top + height) // 8), slice(left // 8, (left + width) // 8)
        total[:, rows, columns] += y
        count[rows, columns] += 1
    last = SAM.attention(clip.to_pixels(x))
    spliced = interpolate((total / count)[None], size=last.grid, mode='bilinear')[0].flatten(1).T
    v, p = normalize(last.values, dim=-1), last.rows(0, len(spliced))
    near = v @ v.transpose(1, 2)
    for i in range(len(spliced)):
        limit = min(sharpness * near[:, i].mean(), 0.9)
        if not negative and limit < 0:
            limit = 0.6
        row = torch.where(near[:, i] > limit, p[:, i], 0).mean(0)
        cells.append(row @ spliced / row.sum())
    y = clip.norm(torch.stack(cells)) @ clip.model.visual.proj
    return y.T.unflatten(1, last.grid)


@torch.no_grad()
@pytest.mark.parametrize(('sharpness', 'negative'), [(1.2, True), (0.0, True), (-2.0, False)])
def test_it_is_the_formula(clip, sharpness, negative, monkeypatch):
    x, boxes = image(40, 56), [(t, left, 24, 32) for t in (0, 16) for left in (0, 24)]
    method = Trident(DINO, SAM, sharpness=sharpness, negative=negative)
    trunk = windows_of(clip, method, x, boxes)
    wanted = naive(clip, x, boxes, sharpness, negative)
    torch.testing.assert_close(method(trunk)[0], wanted, atol=1e-4, rtol=1e-3)
    monkeypatch.setattr(tridents, 'CHUNK_BYTES', 4 * 2 * 64 * 3)
    torch.testing.assert_close(method(trunk)[0], wanted, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_what_the_encoder_pads_is_cut_off(clip):
    """SAM's cells span the picture, the spliced map whole patches."""
    x = image(33, 41)
    method = Trident(DINO, SAM, sharpness=-9.0)
    trunk = windows_of(clip, method, x, [(0, 0, 33, 41)])
    flat = torch.arange(6.0).expand(1, 5, 6)[None]
    cut = tridents.shown(flat, (5, 6), (33, 41), (40, 48))
    centres = (torch.arange(6) + 0.5) * 41 / 6 / 8 - 0.5
    torch.testing.assert_close(cut[0, 0, 0], centres.clamp(0, 5))
    assert method(trunk).shape[-2:] == method.prepare(clip.to_pixels(x))[0].grid


@torch.no_grad()
def test_parts_side_by_side_are_seen_one_at_a_time(clip):
    x, method = image(32, 64), Trident(DINO, SAM, columns=2)
    left, right = method.prepare(clip.to_pixels(x))
    assert left.grid == right.grid == (8, 8)
    own = SAM.attention(clip.to_pixels(x[..., 32:]))
    torch.testing.assert_close(right.values, own.values)
    assert method(windows_of(clip, method, x, [(0, 0, 32, 64)])).shape[-2:] == (8, 16)


def test_bad_input(clip):
    with pytest.raises(
        ValueError, match="expected the whole image beside its windows.*'proxyclip'"
    ):
        clip.dense(image(24, 40)[None], attention=Trident(DINO, SAM))
    with pytest.raises(ValueError, match='expected sam a SAMGuide, found DINOGuide'):
        Trident(DINO, DINO)
    with pytest.raises(ValueError, match='expected columns of 1 or more, found 0'):
        Trident(DINO, SAM, columns=0)


def test_a_picture_of_one_colour(clip):
    x = torch.zeros(3, 24, 40)
    method = Trident(DINO, SAM)
    found = method(windows_of(clip, method, x, [(0, 0, 24, 40)]))
    assert found.isfinite().all()
