import pytest
import torch

from mmseg_siglip.models.dense import similarity
from mmseg_siglip.models.dense.depth import scaled_block
from mmseg_siglip.models.dense.similarity import Similarity


def draw(*size):
    return torch.randn(*size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=['at once', 'some rows'])
def tokens(request, monkeypatch):
    if request.param == 'some rows':
        monkeypatch.setattr(similarity, 'CHUNK_BYTES', 4 * 2 * 30 * 7)
    x = draw(2, 30, 8)
    x[1] += 1.5  # the second image's have more in common
    return x


def pairs(x, floor):
    """(N, N) in float64, one pair after another."""
    x = x.double()
    s = torch.stack([torch.stack([a @ b / a.norm() / b.norm() for b in x]) for a in x])
    return s if floor is None else torch.where(s < floor, 0, s)


@pytest.mark.parametrize('floor', [None, 0.3])
def test_mean_is_of_one_image(tokens, floor):
    found = Similarity(tokens, floor).mean
    expected = torch.stack([pairs(x, floor).mean() for x in tokens]).float()
    torch.testing.assert_close(found.flatten(), expected)


def test_aggregate(tokens):
    y = draw(2, 30, 3)
    found = Similarity(tokens).aggregate(y, 0.3)
    for x, own, result in zip(tokens, y, found, strict=True):
        s = pairs(x, 0.3)
        expected = s @ own.double() / s.sum(1, keepdim=True)
        torch.testing.assert_close(result.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('floor', [None, 0.3])
def test_sharpened(tokens, floor):
    y = draw(2, 30, 3)
    found = Similarity(tokens, floor).sharpened(y, 3.0)
    for x, own, result in zip(tokens, y, found, strict=True):
        z = 3 * (pairs(x, floor) - pairs(x, floor).mean())
        weights = torch.where(z < 0, 0, z.exp())
        expected = weights @ own.double() / weights.sum(1, keepdim=True)
        torch.testing.assert_close(result.double(), expected, atol=1e-5, rtol=1e-5)


def test_a_small_matrix_is_made_once(monkeypatch):
    y, similar = draw(2, 30, 3), Similarity(draw(2, 30, 8), 0.3)
    again = similar.aggregate(y, 0.4), similar.sharpened(y, 3.0)
    similar.unit.zero_()
    kept = similar.aggregate(y, 0.4), similar.sharpened(y, 3.0)
    for found, wanted in zip(again, kept, strict=True):
        assert torch.equal(found, wanted)
    monkeypatch.setattr(similarity, 'CHUNK_BYTES', 4 * 2 * 30 * 29)
    large = Similarity(draw(2, 30, 8))
    large.aggregate(y, 0.4)
    large.unit.zero_()
    assert not large.aggregate(y, 0.4).any()


@pytest.mark.parametrize('x', [torch.ones(1, 9, 8), torch.zeros(1, 9, 8), draw(1, 1, 8)])
def test_tokens_that_coincide_share_evenly(x):
    """Their cosines are above, at or below the mean, as rounding has it."""
    y = draw(1, x.shape[1], 3)
    found = Similarity(x).sharpened(y, 10.0)
    torch.testing.assert_close(found, y.mean(1, keepdim=True).expand_as(y), atol=1e-5, rtol=1e-5)


def test_scaled_block():
    assert [scaled_block(block, 12) for block in (3, 8, 9)] == [3, 8, 9]
    assert [scaled_block(block, 24) for block in (3, 8, 9)] == [6, 16, 18]
    assert [scaled_block(block, 3) for block in (3, 8, 9)] == [1, 1, 1]
    assert scaled_block(11, 12) == 10
