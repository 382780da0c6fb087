from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from mmseg_siglip.models.losses import NormalAngleLoss


def directions(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator), dim=1)


def test_it_is_the_arc_cosine():
    first, second = directions(2, 3, 5, 7), directions(2, 3, 5, 7, seed=1)
    expected = torch.acos((first * second).sum(1).double()).mean()
    torch.testing.assert_close(
        NormalAngleLoss()(first, second).double(), expected, atol=1e-5, rtol=0
    )
    weighted = NormalAngleLoss(loss_weight=3)(first, second)
    torch.testing.assert_close(weighted.double(), 3 * expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(('towards', 'angle'), [((0, 0, 1), 0), ((0, 1, 0), 90), ((0, 0, -1), 180)])
def test_hand_values_with_finite_gradients(towards, angle):
    truth = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1)
    prediction = torch.tensor(towards).float().view(1, 3, 1, 1).requires_grad_()
    loss = NormalAngleLoss()(prediction, truth)
    loss.backward()
    assert loss.item() == pytest.approx(math.radians(angle), abs=1e-5)
    assert prediction.grad.isfinite().all()


def test_small_angles_keep_their_gradient():
    """Where an arc cosine in float32 is flat."""
    truth = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1)
    prediction = normalize(torch.tensor([1e-4, 0, 1]).view(1, 3, 1, 1), dim=1).requires_grad_()
    loss = NormalAngleLoss()(prediction, truth)
    loss.backward()
    assert loss.item() == pytest.approx(1e-4, rel=0.02)
    assert float(prediction.grad[0, 0]) == pytest.approx(1, rel=0.02)


def test_unknown_pixels_and_images_do_not_count():
    prediction, truth = directions(3, 3, 4, 4).requires_grad_(), directions(3, 3, 4, 4, seed=1)
    expected = NormalAngleLoss()(prediction[:1, :, :2], truth[:1, :, :2])
    truth[0, :, 2:], truth[1], truth[2] = 0, 0, float('nan')
    loss = NormalAngleLoss()(prediction, truth)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert prediction.grad[0, :, :2].abs().sum() > 0
    assert prediction.grad.isfinite().all() and not prediction.grad[1:].any()
    nothing = NormalAngleLoss()(prediction, torch.zeros_like(truth))
    assert nothing.item() == 0 and nothing.requires_grad


def test_half_precision_is_computed_in_full():
    first, second = directions(1, 3, 5, 5), directions(1, 3, 5, 5, seed=1)
    with torch.autocast('cpu', torch.bfloat16):
        found = NormalAngleLoss()(first, second)
    assert torch.equal(found, NormalAngleLoss()(first, second))


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r'one shape \(B, 3, H, W\), found \(1, 3, 2, 2\) and'):
        NormalAngleLoss()(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match='expected prediction and truth of one shape'):
        NormalAngleLoss()(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
