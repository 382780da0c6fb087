"""Scores against numpy, hand values, crops counted, alignments undone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmseg_siglip.evaluation.depth_scores import (
    SCORES,
    aligned,
    clamp,
    crop_mask,
    depth_scores,
    middle_of,
)

BOUNDS = dict(min_depth=1e-3, max_depth=10.0)


def oracle(prediction, truth):
    """Each formula as the papers print it."""
    g = np.log(prediction) - np.log(truth)
    ratio = np.maximum(prediction / truth, truth / prediction)
    return dict(
        delta1=(ratio < 1.25).mean(),
        delta2=(ratio < 1.25**2).mean(),
        delta3=(ratio < 1.25**3).mean(),
        abs_rel=np.mean(np.abs(prediction - truth) / truth),
        sq_rel=np.mean((prediction - truth) ** 2 / truth),
        rmse=np.sqrt(np.mean((prediction - truth) ** 2)),
        rmse_log=np.sqrt(np.mean(g**2)),
        log10=np.mean(np.abs(np.log10(prediction) - np.log10(truth))),
        silog=100 * np.sqrt(np.mean(g**2) - np.mean(g) ** 2),
        silog_mmseg=np.sqrt(np.mean(g**2) - 0.5 * np.mean(g) ** 2),
    )


def test_scores_equal_numpy():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 10, 500)
    prediction = truth * rng.uniform(0.6, 1.7, 500)
    expected = oracle(prediction, truth)
    got = depth_scores(torch.tensor(prediction), torch.tensor(truth))
    assert tuple(got) == SCORES == tuple(expected)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-9), name


def test_hand_values():
    """One pixel twice too far: 2 and 1; one exact: 3 and 3."""
    got = depth_scores(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 3.0]))
    assert (got['delta1'], got['delta2'], got['delta3']) == (0.5, 0.5, 0.5)
    assert (got['abs_rel'], got['sq_rel']) == (0.5, 0.5)
    assert got['rmse'] == pytest.approx(math.sqrt(0.5))
    assert got['log10'] == pytest.approx(math.log10(2) / 2)
    assert got['silog'] == pytest.approx(100 * math.log(2) / 2)
    assert got['silog_mmseg'] == pytest.approx(math.log(2) * math.sqrt(3 / 8))


def test_mmsegs_silog_is_its_own():
    from mmseg.evaluation import DepthMetric

    truth, prediction = torch.rand(99) + 1, torch.rand(99) + 1
    expected = DepthMetric._calc_all_metrics(truth, prediction)['silog']
    assert depth_scores(prediction, truth)['silog_mmseg'] == pytest.approx(expected, rel=1e-4)


def test_crops_are_the_published_ones():
    assert int(crop_mask((480, 640), 'nyu').sum()) == 426 * 560 == 238560
    nyu = crop_mask((480, 640), 'nyu')
    assert nyu[45, 41] and nyu[470, 600] and not nyu[44, 41] and not nyu[471, 600]
    garg, eigen = crop_mask((352, 1216), 'garg'), crop_mask((352, 1216), 'eigen')
    rows, columns = garg.any(1).nonzero()[:, 0], garg.any(0).nonzero()[:, 0]
    assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == (143, 349, 43, 1172)
    rows, columns = eigen.any(1).nonzero()[:, 0], eigen.any(0).nonzero()[:, 0]
    assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == (117, 321, 43, 1172)
    assert crop_mask((5, 7), None).all()
    with pytest.raises(ValueError, match='expected a depth map of 480x640, found 240x320'):
        crop_mask((240, 320), 'nyu')


def test_clamping():
    values = torch.tensor([float('inf'), -float('inf'), 0.0, -2.0, 5.0, 99.0])
    expected = torch.tensor([10, 1e-3, 1e-3, 1e-3, 5, 10])
    assert torch.equal(clamp(values, **BOUNDS), expected)
    assert clamp(torch.tensor(float('nan')), **BOUNDS).isnan()


@pytest.mark.parametrize('kind', ['depth', 'inverse'])
def test_alignments_undo_what_they_fit(kind):
    truth = torch.rand(200, dtype=torch.float64) * 8 + 1
    inverse = (1 / truth - 0.05) * 7
    prediction = inverse if kind == 'inverse' else 1 / inverse.clamp(min=1e-3)
    keep = inverse > 1e-3
    fitted = aligned(prediction[keep], truth[keep], how='lstsq', kind=kind, **BOUNDS)
    torch.testing.assert_close(fitted, truth[keep])
    for scale in (0.01, 3, 100):
        scaled = truth * scale if kind == 'depth' else 1 / (truth * scale)
        fitted = aligned(scaled, truth, how='median', kind=kind, **BOUNDS)
        torch.testing.assert_close(fitted, truth)


def test_inverse_depth_of_0_is_far_under_the_median():
    """A ReLU's output: the rest is fitted as without it."""
    truth = torch.tensor([1.0, 2.0, 4.0, 9.0, 9.0])
    inverse = torch.tensor([1.0, 0.5, 0.25, 0.0, -1.0])
    fitted = aligned(inverse, truth, how='median', kind='inverse', **BOUNDS)
    assert clamp(fitted, **BOUNDS).tolist() == [1, 2, 4, 10, 10]


@pytest.mark.parametrize('count', [1, 2, 5, 6, 1000])
def test_the_median_is_numpys(count):
    """torch's is the lower of the two middle values."""
    values = np.random.default_rng(count).uniform(0, 9, count)
    assert float(middle_of(torch.tensor(values))) == np.median(values)
    truth = np.random.default_rng(0).uniform(1, 9, count)
    for kind, depth in (('depth', values), ('inverse', 1 / values)):
        got = aligned(torch.tensor(values), torch.tensor(truth), how='median', kind=kind, **BOUNDS)
        np.testing.assert_allclose(got, depth * (np.median(truth) / np.median(depth)))


def test_lstsq_is_numpys():
    rng = np.random.default_rng(1)
    truth, prediction = rng.uniform(1, 9, 50), rng.uniform(0.1, 2, 50)
    a, *_ = np.linalg.lstsq(np.stack([prediction, np.ones(50)], 1), 1 / truth, rcond=None)
    expected = 1 / np.clip(a[0] * prediction + a[1], 0.1, 1000)
    got = aligned(
        torch.tensor(prediction), torch.tensor(truth), how='lstsq', kind='inverse', **BOUNDS
    )
    np.testing.assert_allclose(got, expected)
    flat = aligned(
        torch.ones(50).double(), torch.tensor(truth), how='lstsq', kind='inverse', **BOUNDS
    )
    np.testing.assert_allclose(flat, 1 / np.mean(1 / truth))


def test_none_leaves_metres_alone_and_refuses_inverse_depth():
    x = torch.rand(9)
    assert aligned(x, x, how='none', kind='depth', **BOUNDS) is x
    with pytest.raises(ValueError, match="expected 'median' or 'lstsq' for a model of relative"):
        aligned(x, x, how='none', kind='inverse', **BOUNDS)
