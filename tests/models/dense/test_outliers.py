import pytest
import torch

from mmseg_siglip.models.backbones import block
from mmseg_siglip.models.dense import similarity
from mmseg_siglip.models.dense.outliers import largest, lof_outliers, outlier_factor, repair


def tokens(batch, count, seed=0):
    return torch.randn(batch, count, 6, generator=torch.Generator().manual_seed(seed)) + 5


def factor_by_hand(x, k):
    """One token after another, in float64."""
    x = x.double()
    distance = [[(a - b).square().sum() for b in x] for a in x]
    near = [
        sorted((j for j in range(len(x)) if j != i), key=lambda j: distance[i][j])[:k]
        for i in range(len(x))
    ]
    reach = [distance[i][near[i][-1]] for i in range(len(x))]
    return torch.stack([sum(reach[i] / reach[j] for j in near[i]) / k for i in range(len(x))])


@pytest.mark.parametrize(('count', 'k'), [(40, 30), (40, 5), (12, 30), (2, 30)])
def test_factor_equals_one_token_after_another(count, k):
    x = tokens(2, count)
    found = outlier_factor(x, k)
    for one, own in zip(x, found, strict=True):
        expected = factor_by_hand(one, min(k, count - 1)).float()
        torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-5)


def test_some_rows_at_a_time_are_all_at_once(monkeypatch):
    x = tokens(2, 50)
    at_once = outlier_factor(x, 7)
    monkeypatch.setattr(similarity, 'CHUNK_BYTES', 4 * 2 * 50 * 9)
    assert len(list(similarity.chunks(50, 4 * 2 * 50, torch.device('cpu')))) == 6
    torch.testing.assert_close(outlier_factor(x, 7), at_once)
    assert block.CHUNK_BYTES > 1e6


def test_a_stray_is_found_and_no_more_than_the_part():
    x = tokens(2, 40)
    x[0, 7] += 9
    x[1, 30] -= 9
    found = lof_outliers(x)
    assert found[0, 7] and found[1, 30]
    assert found.sum(1).tolist() == [2, 2]
    assert lof_outliers(x, contamination=0.2).sum(1).tolist() == [8, 8]


@pytest.mark.parametrize('x', [torch.ones(2, 40, 6), torch.zeros(2, 5, 6), tokens(2, 1)])
def test_tokens_that_coincide_and_one_alone_are_none(x):
    assert outlier_factor(x).isfinite().all()
    assert not lof_outliers(x).any()


def test_one_beside_many_that_coincide():
    x = torch.ones(1, 40, 6)
    x[0, 3] = 4
    assert lof_outliers(x)[0].nonzero().tolist() == [[3]]
    assert outlier_factor(x).isfinite().all()


def test_largest():
    values = torch.tensor([[3.0, 1, 2, 5], [0, -1, -2, -3]])
    assert largest(values, 2).tolist() == [[True, False, False, True], [True, True, False, False]]
    among = torch.tensor([[True, True, False, False], [False] * 4])
    assert largest(values, 3, among).tolist() == [[True, True, False, False], [False] * 4]
    assert largest(values, 9).all()


def repair_by_hand(x, outliers, grid, lonely):
    fixed = x.clone()
    h, w = grid
    for i in outliers.nonzero().flatten().tolist():
        row, column = divmod(i, w)
        around = [
            r * w + c
            for r in range(max(row - 1, 0), min(row + 2, h))
            for c in range(max(column - 1, 0), min(column + 2, w))
        ]
        fine = [j for j in around if not outliers[j]]
        if fine:
            fixed[i] = x[fine].mean(0)
        elif lonely == 'zero':
            fixed[i] = 0
    return fixed


@pytest.mark.parametrize('grid', [(4, 7), (7, 4), (1, 28), (28, 1)])
@pytest.mark.parametrize('lonely', ['keep', 'zero'])
def test_repair_equals_one_patch_after_another(grid, lonely):
    x = tokens(3, 28)
    chosen = torch.rand(3, 28, generator=torch.Generator().manual_seed(1)) < 0.2
    chosen[1] = True
    chosen[2] = False
    chosen[2, :16] = True  # among them some without a neighbour that is fine
    found = repair(x, chosen, grid, lonely=lonely)
    for one, own, outliers in zip(x, found, chosen, strict=True):
        torch.testing.assert_close(own, repair_by_hand(one, outliers, grid, lonely))
    assert found[1].eq(0).all() == (lonely == 'zero')
