"""SILog against numbers worked out by hand, its two written forms, and its edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mmseg.models.losses.silog_loss import silog_loss as mmseg_silog

from mmseg_siglip.models.losses import SILogDepthLoss


def image(*values):
    return torch.tensor([[values]], dtype=torch.float32)


def test_hand_value():
    """g = (log 2, 0): E[g²] = log²2 / 2, E[g]² = log²2 / 4."""
    for focus, inside in ((0.0, 1 / 2), (0.5, 3 / 8), (1.0, 1 / 4)):
        loss = SILogDepthLoss(variance_focus=focus)(image(2.0, 3.0), image(1.0, 3.0))
        assert loss.item() == pytest.approx(math.log(2) * math.sqrt(inside), rel=1e-5)


@pytest.mark.parametrize('focus', [0.0, 0.5, 0.85, 1.0])
def test_both_written_forms(focus):
    rng = np.random.default_rng(0)
    truth, prediction = rng.uniform(0.5, 9, (2, 3, 6, 5))
    g = np.log(prediction) - np.log(truth)
    by_lambda = [10 * math.sqrt((e**2).mean() - focus * e.mean() ** 2) for e in g]
    by_variance = [10 * math.sqrt(e.var() + (1 - focus) * e.mean() ** 2) for e in g]
    np.testing.assert_allclose(by_lambda, by_variance)
    loss = SILogDepthLoss(variance_focus=focus, scale=10)
    got = loss(torch.tensor(prediction), torch.tensor(truth))
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(np.mean(by_lambda), rel=1e-5)
    whole = SILogDepthLoss(variance_focus=focus, scale=10, per_image=False)
    expected = 10 * math.sqrt(g.var() + (1 - focus) * g.mean() ** 2)
    assert whole(torch.tensor(prediction), torch.tensor(truth)).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_equals_mmsegs_where_that_is_right():
    torch.manual_seed(0)
    prediction, truth = torch.rand(2, 4, 7, 5) * 8 + 0.5
    expected = mmseg_silog(prediction, truth, eps=1e-6)
    torch.testing.assert_close(SILogDepthLoss()(prediction, truth), expected, rtol=1e-4, atol=1e-5)


def test_no_nan_at_an_exact_fit_where_mmsegs_has_one():
    truth = torch.rand(2, 3, 4) + 1
    ours, theirs = truth.clone().requires_grad_(), truth.clone().requires_grad_()
    loss = SILogDepthLoss()(ours, truth)
    loss.backward()
    assert loss < 1e-3 and torch.isfinite(ours.grad).all()
    mmseg_silog(theirs, truth).backward()
    assert theirs.grad.isnan().any()


def test_only_valid_pixels_count():
    truth = image(0.0, float('nan'), float('inf'), -1.0, 20.0, 1e-4, 1.0, 3.0)
    prediction = image(5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 2.0, 3.0).requires_grad_()
    loss = SILogDepthLoss(variance_focus=0.0, max_depth=10)(prediction, truth)
    assert loss.item() == pytest.approx(math.log(2) * math.sqrt(0.5), rel=1e-5)
    loss.backward()
    assert torch.isfinite(prediction.grad).all()
    assert prediction.grad[0, 0, :6].abs().sum() == 0 and prediction.grad[0, 0, 6] > 0


def test_an_empty_mask_gives_zero_with_a_gradient_and_does_not_dilute():
    prediction = torch.full((2, 2, 2), 2.0, requires_grad=True)
    truth = torch.zeros(2, 2, 2)
    loss = SILogDepthLoss()(prediction, truth)
    loss.backward()
    assert loss.item() == 0 and torch.equal(prediction.grad, torch.zeros(2, 2, 2))
    truth[1] = 1.0
    alone = SILogDepthLoss()(prediction[1:], truth[1:])
    torch.testing.assert_close(SILogDepthLoss()(prediction, truth), alone)


def test_a_prediction_of_zero_or_below_is_finite():
    prediction = torch.tensor([[[0.0, -3.0, 1.0]]], requires_grad=True)
    loss = SILogDepthLoss()(prediction, torch.ones(1, 1, 3))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(prediction.grad).all()


def test_float32_under_mixed_precision():
    prediction, truth = torch.rand(1, 8, 8) + 1, torch.rand(1, 8, 8) + 1
    expected = SILogDepthLoss()(prediction, truth)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = SILogDepthLoss()(prediction, truth)
        assert SILogDepthLoss()(prediction.bfloat16(), truth).dtype == torch.float32
    assert torch.equal(got, expected)


def test_bad_input():
    with pytest.raises(ValueError, match=r'of one shape .* found \(1, 2, 2\) and \(1, 2, 3\)'):
        SILogDepthLoss()(torch.ones(1, 2, 2), torch.ones(1, 2, 3))
    with pytest.raises(ValueError, match='variance_focus: expected 0 to 1, found 2'):
        SILogDepthLoss(variance_focus=2)
