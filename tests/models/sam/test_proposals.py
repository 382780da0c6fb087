import numpy as np
import pytest
import torch
from segment_anything.utils.amg import build_point_grid, calculate_stability_score
from tiny_sams import disturb

from mmseg_siglip.models.sam import SAMAdapter, SAMPointGrid
from mmseg_siglip.models.sam.proposals import (
    Proposals,
    content,
    grid_points,
    placed,
    stability,
    suppress,
)

LOOSE = dict(points_per_side=4, min_iou=-10.0, min_stability=0.0, max_iou=0.9)


@pytest.fixture(scope='module')
def image():
    return torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope='module')
def grid(sam_config):
    module = SAMPointGrid(dict(type='SAMAdapter', config=sam_config), **LOOSE)
    disturb(module.sam.model)
    return module


def naive_suppression(masks, scores, max_iou):
    order = sorted(range(len(scores)), key=lambda k: -scores[k])
    stays = []
    for k in order:
        ious = [(masks[k] & masks[j]).sum() / max((masks[k] | masks[j]).sum(), 1) for j in stays]
        if all(iou <= max_iou for iou in ious):
            stays.append(k)
    return stays


@pytest.mark.parametrize('max_iou', [0.2, 0.5, 0.8])
def test_suppression_equals_the_naive_one(max_iou):
    rng = np.random.default_rng(0)
    masks = rng.random((24, 7, 9)) < rng.random((24, 1, 1))
    masks[7] = masks[3]
    scores = rng.random(24)
    found = suppress(torch.from_numpy(masks), torch.from_numpy(scores), max_iou)
    assert found.tolist() == naive_suppression(masks, scores, max_iou)


def test_what_is_nested_is_kept():
    """A shape and its hole-filling outline have the same box, but are different masks."""
    outer = torch.zeros(2, 10, 10, dtype=torch.bool)
    outer[:, 1:9, 1:9] = True
    outer[1, 3:9, 3:8] = False
    assert suppress(outer, torch.tensor([0.9, 0.8]), 0.7).tolist() == [0, 1]
    assert suppress(outer[:0], torch.empty(0), 0.7).tolist() == []


def test_points_and_stability_are_those_of_segment_anything():
    size = (30, 70)
    own = build_point_grid(5) * np.array(size[::-1])
    np.testing.assert_allclose(grid_points(5, size).numpy(), own, rtol=1e-6)
    logits = torch.randn(6, 9, 11) * 3
    expected = calculate_stability_score(logits, 0.0, 1.0)
    torch.testing.assert_close(stability(logits, 1.0), expected)
    assert stability(torch.full((1, 3, 3), -9.0), 1.0) == 0


def test_equals_one_click_at_a_time(grid, image):
    """The proposals are the naive loop over clicks, filtered and suppressed."""
    sam = grid.sam
    features = sam.encode(image[None])
    logits, ious = [], []
    for x, y in grid_points(4, (40, 56)).tolist():
        clicks = torch.tensor([[[[x, y]]]])
        sparse = sam.prompt_points(clicks, torch.ones(1, 1, 1), features)
        low, iou = sam.decode(features, sparse, multimask=True)
        logits += list(low[0, 0])
        ious += list(iou[0, 0])
    logits, ious = torch.stack(logits), torch.stack(ious)
    inside = content(logits, features)
    some = (inside > 0).flatten(1).any(1)
    logits, ious, inside = logits[some], ious[some], inside[some]
    kept = naive_suppression((inside > 0).numpy(), ious.numpy(), 0.9)
    found = grid(image)
    assert len(found) == len(kept) > 2
    torch.testing.assert_close(found.logits, logits[kept], atol=1e-4, rtol=1e-4)
    scores = (ious[kept] * stability(inside[kept], 1.0)).clamp(0, 1)
    torch.testing.assert_close(found.scores, scores, atol=1e-4, rtol=1e-4)


def test_batches_of_clicks_do_not_show(grid, image, monkeypatch):
    whole = grid(image)
    monkeypatch.setattr(grid, 'points_per_batch', 3)
    parts = grid(image)
    torch.testing.assert_close(parts.logits, whole.logits, atol=1e-4, rtol=1e-4)


def test_thresholds_and_the_limit(grid, image, monkeypatch):
    scores = grid(image).scores
    monkeypatch.setattr(grid, 'max_masks', 2)
    assert len(grid(image)) <= 2
    monkeypatch.setattr(grid, 'min_stability', 2.0)
    none = grid(image)
    assert len(none) == 0 and list(none.masks((40, 56))) == []
    assert len(scores) > 2


def test_masks_in_parts_are_those_of_the_whole(grid, image, monkeypatch):
    found = grid(image)
    size = (33, 47)
    whole = placed(grid.sam.encode(image[None]))(found.logits, size) > 0
    monkeypatch.setattr('mmseg_siglip.models.sam.proposals.CHUNK_BYTES', 2 * 33 * 47 * 4)
    parts = list(found.masks(size))
    assert len(parts) > 1 and torch.equal(torch.cat([masks for _, masks in parts]), whole)
    assert [part.start for part, _ in parts] == list(range(0, len(found), 2))
    some = found.take(torch.tensor([1, 0]))
    assert torch.equal(next(iter(some.masks(size)))[1], whole[[1, 0]])


def test_padding_is_no_content(sam_config):
    adapter = SAMAdapter(config=sam_config)
    features = adapter.encode(torch.rand(1, 3, 40, 80))
    logits = torch.zeros(1, *adapter.mask_size)
    assert content(logits, features).shape == (1, adapter.mask_size[0] // 2, adapter.mask_size[1])


def test_labels_travel_with_their_masks():
    logits, scores = torch.randn(3, 4, 4), torch.rand(3)
    given = Proposals(logits, scores, lambda x, size: x, torch.tensor([5, 6, 7]))
    kept = given.take(torch.tensor([True, False, True]))
    assert kept.labels.tolist() == [5, 7] and torch.equal(kept.scores, scores[[0, 2]])


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (dict(points_per_side=0), 'expected points_per_side of 1 or more, found 0'),
        (dict(points_per_batch=0), 'expected points_per_batch of 1 or more, found 0'),
        (dict(precision='fp8'), "precision: expected one of .* found 'fp8'"),
    ],
)
def test_refusals(sam_config, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        SAMPointGrid(dict(type='SAMAdapter', config=sam_config), **options)
