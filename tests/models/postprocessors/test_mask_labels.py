"""Against loops over masks and pixels."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmseg_siglip.models.postprocessors import mask_labels
from mmseg_siglip.models.postprocessors.mask_labels import (
    at_centres,
    choose,
    fuse,
    in_parts,
    label_map,
    paint_rank,
    pooled_cosines,
    sums,
    winners,
    withdraw,
)

OWNER = (0, 1, 2, 0, 1)


@pytest.fixture
def masks():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(6, 3, 5, generator=generator) < 0.5
    return coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)


@pytest.fixture
def logits():
    return torch.rand(5, 12, 20, generator=torch.Generator().manual_seed(1))


def test_sums_equal_the_loop(masks, logits):
    found = sums([masks[:2], masks[2:]], logits, OWNER)
    best = logits.argmax(0)
    for index, mask in enumerate(masks):
        assert found.area[index] == mask.sum()
        votes = [0, 0, 0]
        for word in best[mask].tolist():
            votes[OWNER[word]] += 1
        assert found.votes[index].tolist() == votes
        torch.testing.assert_close(found.means[index], logits[:, mask].mean(1))
    none = sums([], logits, OWNER)
    assert none.area.shape == (0,) and none.votes.shape == (0, 3) and none.means.shape == (0, 5)


def test_pooled_features_equal_the_loop(masks):
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(7, 3, 5, generator=generator)
    text = torch.nn.functional.normalize(torch.randn(4, 7, generator=generator), dim=1)
    found = pooled_cosines([masks[:4], masks[4:]], features, text)
    for index, mask in enumerate(masks):
        covered = mask[::4, ::4]
        pooled = features[:, covered].mean(1)
        expected = text @ (pooled / pooled.norm())
        torch.testing.assert_close(found[index], expected, atol=1e-5, rtol=1e-5)
    assert pooled_cosines([], features, text).shape == (0, 4)


def test_partly_covered_cells_weigh_less():
    mask = torch.zeros(1, 4, 8, dtype=torch.bool)
    mask[:, :, :4] = mask[:, :2, 4:] = True
    features = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    cosines = pooled_cosines([mask], features, torch.eye(2))
    torch.testing.assert_close(cosines[0], torch.tensor([2.0, 1.0]) / 5**0.5)


def test_a_mask_smaller_than_a_cell_is_read_at_its_centre():
    """Resizing such a mask to the cells and pooling would give a quarter of a feature, or none."""
    features = torch.zeros(2, 1, 4)
    features[0, 0] = torch.arange(4.0)
    features[1] = 1
    mask = torch.zeros(1, 8, 32, dtype=torch.bool)
    mask[:, 4, 15:17] = True  # centred on the border of cells 1 and 2
    assert at_centres(mask, features)[0].tolist() == [1.5, 1.0]
    cosines = pooled_cosines([mask], features, torch.eye(2))
    torch.testing.assert_close(cosines[0], torch.tensor([1.5, 1.0]) / 3.25**0.5)


def test_choice_and_lead():
    scores = torch.tensor([[1.0, 5.0, 2.0, 4.0, 4.5], [0.0, 0.0, 3.0, 9.0, 1.0]])
    labels, lead = choose(scores, OWNER)
    assert labels.tolist() == [1, 0] and lead.tolist() == [1.0, 6.0]
    labels, lead = choose(scores[:, :2], (0, 0))
    assert labels.tolist() == [0, 0] and lead.isinf().all()


def test_orders():
    scores = torch.tensor([0.9, 0.501, 0.5, 0.7])
    area = torch.tensor([100, 10, 5, 40])
    assert paint_rank('score', scores, area).tolist() == [3, 0, 1, 2]
    assert paint_rank('small_on_top', scores, area).tolist() == [0, 2, 3, 1]
    assert paint_rank('large_on_top', scores, area).tolist() == [3, 1, 0, 2]
    assert len(paint_rank('score', scores[:0], area[:0])) == 0


def test_winners_equal_painting(masks):
    rank = torch.tensor([3, 0, 5, 1, 4, 2])
    expected = np.full((12, 20), -1)
    for index in rank.argsort().tolist():
        expected[masks[index].numpy()] = index
    parts = [(slice(0, 4), masks[:4]), (slice(4, 6), masks[4:])]
    assert (winners(parts, rank, (12, 20)).numpy() == expected).all()
    assert (winners([], rank[:0], (2, 3)) == -1).all()


def test_many_masks_are_painted_some_at_a_time(masks, monkeypatch):
    expected = torch.zeros(12, 20, dtype=torch.long)
    order = masks.flatten(1).sum(1).argsort(stable=True)
    for index in order.tolist():
        expected[masks[index]] = index + 1
    monkeypatch.setattr(mask_labels, 'CHUNK_BYTES', 8 * 12 * 20 * 2)
    assert [len(part) for _, part in in_parts(masks)] == [2, 2, 2]
    assert torch.equal(label_map(masks), expected)

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            found = function(*args, **(kwargs or {}))
            if isinstance(found, torch.Tensor) and found.dtype == torch.int64:
                assert found.numel() <= 2 * 12 * 20, function
            return found

    with Watch():
        label_map(masks)


@pytest.mark.parametrize('alpha', [0.0, 0.3, 1.0])
def test_fusion_equals_the_formula(masks, logits, alpha):
    top = winners([(slice(0, 6), masks)], torch.arange(6), (12, 20))
    generator = torch.Generator().manual_seed(3)
    query = torch.tensor([0, 4, 2, 1, 3, 0])
    means, confidence = torch.rand(6, 5, generator=generator), torch.rand(6, generator=generator)
    expected = logits.clone()
    for y in range(12):
        for x in range(20):
            k = int(top[y, x])
            if k < 0:
                continue
            weight = alpha * confidence[k]
            vote = means[k].min().repeat(5)
            vote[query[k]] = means[k].max()
            expected[:, y, x] = (1 - weight) * logits[:, y, x] + weight * vote
    found = fuse(logits, top, query, means, confidence, alpha)
    torch.testing.assert_close(found, expected)
    if alpha == 0:
        assert torch.equal(found, logits)
    assert fuse(logits, top, query[:0], means[:0], confidence[:0], alpha) is logits


def test_a_trusted_mask_has_its_class_everywhere(masks, logits):
    top = winners([(slice(0, 6), masks)], torch.arange(6), (12, 20))
    query = torch.tensor([0, 4, 2, 1, 3, 0])
    fused = fuse(logits, top, query, torch.rand(6, 5), torch.ones(6), 1.0)
    inside = top >= 0
    assert (fused.argmax(0)[inside] == query[top[inside]]).all()
    assert torch.equal(fused[:, ~inside], logits[:, ~inside])


def test_withdrawal_equals_the_formula(logits):
    generator = torch.Generator().manual_seed(4)
    left = torch.randint(-1, 3, (12, 20), generator=generator)
    labels, means = torch.tensor([0, 2, 1]), torch.rand(3, 5, generator=generator)
    confidence = torch.rand(3, generator=generator)
    expected = logits.clone()
    for y in range(12):
        for x in range(20):
            k = int(left[y, x])
            for word in range(5):
                if k >= 0 and OWNER[word] == labels[k]:
                    weight = 0.6 * confidence[k]
                    value = (1 - weight) * logits[word, y, x] + weight * means[k].min()
                    expected[word, y, x] = value
    given = (logits, left, labels, means, confidence)
    torch.testing.assert_close(withdraw(*given, 0.6, OWNER), expected)
    assert torch.equal(withdraw(*given, 0.0, OWNER), logits)
