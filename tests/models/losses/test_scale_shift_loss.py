"""Scale-and-shift-invariant losses against hand values and a naive least-squares fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmseg_siglip.models.losses import GradientMatchingLoss, ScaleShiftInvariantLoss
from mmseg_siglip.models.losses.scale_shift_loss import align

LOSSES = [ScaleShiftInvariantLoss, GradientMatchingLoss]


def maps(seed=0, shape=(2, 9, 7)):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 9, shape)
    truth[:, :2] = 0
    return torch.tensor(rng.uniform(0, 2, shape)), torch.tensor(truth)


def test_align_is_numpys_least_squares():
    prediction, truth = maps()
    mask = truth > 0
    target = torch.where(mask, 1 / truth, 0)
    got = align(prediction, target, mask)
    for i in range(2):
        p, d = prediction[i][mask[i]].numpy(), target[i][mask[i]].numpy()
        fit, *_ = np.linalg.lstsq(np.stack([p, np.ones_like(p)], 1), d, rcond=None)
        np.testing.assert_allclose(got[i][mask[i]], fit[0] * p + fit[1])


def test_hand_values():
    """Inverse truth 1, 1/2, 1/4; a flat prediction becomes their mean, 7/12."""
    truth, flat = torch.tensor([[[1.0, 2.0, 4.0]]]), torch.full((1, 1, 3), 5.0)
    off = np.array([1, 1 / 2, 1 / 4]) - 7 / 12
    mse = ScaleShiftInvariantLoss()(flat, truth)
    assert mse.item() == pytest.approx((off**2).mean() / 2, rel=1e-5)
    mae = ScaleShiftInvariantLoss(norm='mae')(flat, truth)
    assert mae.item() == pytest.approx(np.abs(off).mean() / 2, rel=1e-5)
    trimmed = ScaleShiftInvariantLoss(norm='mae', trim=1 / 3)(flat, truth)
    assert trimmed.item() == pytest.approx(np.sort(np.abs(off))[:2].mean() / 2, rel=1e-5)
    gradient = GradientMatchingLoss(scales=2)(flat, truth)
    # scale 0: steps 1/2 and 1/4 over 3 pixels; scale 1: pixels 0 and 2, one step of 3/4 over 2
    assert gradient.item() == pytest.approx((1 / 2 + 1 / 4) / 3 + (3 / 4) / 2, rel=1e-5)


def test_gradient_matching_is_the_naive_loop():
    prediction, truth = maps(3)
    mask = truth > 0
    residual = align(prediction.float(), torch.where(mask, 1 / truth, 0).float(), mask)
    residual = residual - torch.where(mask, 1 / truth, 0)
    expected = []
    for image in range(2):
        total = 0.0
        for step in (1, 2, 4, 8):
            rows, columns = range(0, 9, step), range(0, 7, step)
            count = sum(bool(mask[image, y, x]) for y in rows for x in columns)
            for y in rows:
                for x in columns:
                    for v, u in ((y + step, x), (y, x + step)):
                        if v < 9 and u < 7 and mask[image, y, x] and mask[image, v, u]:
                            pair = residual[image, v, u] - residual[image, y, x]
                            total += abs(pair.item()) / count
        expected.append(total)
    got = GradientMatchingLoss(scales=4)(prediction, truth)
    assert got.item() == pytest.approx(np.mean(expected), rel=1e-4)


@pytest.mark.parametrize('build', LOSSES)
def test_invariant_to_scale_and_shift_and_zero_at_a_fit(build):
    prediction, truth = maps(1)
    loss = build()
    torch.testing.assert_close(loss(3 * prediction + 7, truth), loss(prediction, truth))
    inverse = torch.where(truth > 0, 1 / truth, 0)
    exact = (0.2 * inverse + 4).requires_grad_()
    value = loss(exact, truth)
    value.backward()
    assert value < 1e-5 and torch.isfinite(exact.grad).all()


@pytest.mark.parametrize('build', LOSSES)
def test_depth_predictions_are_turned_over(build):
    prediction, truth = maps(2)
    depth = 1 / (prediction + 0.1)
    expected = build()(prediction + 0.1, truth)
    torch.testing.assert_close(build(predicts='depth')(depth, truth), expected)


@pytest.mark.parametrize('build', LOSSES)
def test_an_empty_mask_gives_zero_with_a_gradient_and_does_not_dilute(build):
    prediction, truth = maps(4)
    prediction.requires_grad_()
    loss = build(max_depth=0.1)(prediction, truth)
    loss.backward()
    assert loss.item() == 0 and torch.equal(prediction.grad, torch.zeros_like(prediction))
    half = truth.clone()
    half[0] = float('nan')
    torch.testing.assert_close(build()(prediction, half), build()(prediction[1:], truth[1:]))


@pytest.mark.parametrize('build', LOSSES)
def test_flat_predictions_and_float32_under_mixed_precision(build):
    _, truth = maps(5)
    flat = torch.ones(2, 9, 7, requires_grad=True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = build()(flat, truth)
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(flat.grad).all()


def test_bad_options():
    with pytest.raises(ValueError, match="norm: expected 'mse' or 'mae', found 'huber'"):
        ScaleShiftInvariantLoss(norm='huber')
    with pytest.raises(ValueError, match=r'trim: expected \[0, 1\), found 1'):
        ScaleShiftInvariantLoss(trim=1)
    with pytest.raises(ValueError, match='scales: expected 1 or more, found 0'):
        GradientMatchingLoss(scales=0)
    with pytest.raises(ValueError, match="predicts: expected 'inverse' or 'depth', found 'log'"):
        GradientMatchingLoss(predicts='log')
    with pytest.raises(ValueError, match='ScaleShiftInvariantLoss: expected prediction and truth'):
        ScaleShiftInvariantLoss()(torch.ones(1, 2, 2), torch.ones(2, 2))
