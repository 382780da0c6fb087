import math

import numpy as np
import pytest
import torch
from scipy.special import expit

from mmseg_siglip.models.losses import SigmoidLoss


def inputs(n: int = 6, m: int = 9, d: int = 5):
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(k, d, generator=generator) for k in (n, m))
    positives = torch.rand(n, m, generator=generator) < 0.3
    return images, texts, positives


def naive(images, texts, scale, bias, positives, ignored=None) -> float:
    """The paper's formula, one pair at a time, in float64."""
    total = 0.0
    for i, x in enumerate(images.double().numpy()):
        for j, y in enumerate(texts.double().numpy()):
            if ignored is not None and ignored[i, j]:
                continue
            z = 1 if positives[i, j] else -1
            cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
            total += math.log(expit(z * (scale * cosine + bias)))
    return -total / len(images)


@pytest.mark.parametrize('scale, bias', [(10.0, -10.0), (1.0, 0.0), (30.0, 4.0)])
def test_equals_the_formula(scale, bias):
    images, texts, positives = inputs()
    loss = SigmoidLoss()(
        images, texts, scale=torch.tensor(scale), bias=torch.tensor(bias), positives=positives
    )
    assert loss.item() == pytest.approx(naive(images, texts, scale, bias, positives), rel=1e-5)


def test_ignored_pairs_are_left_out_of_sum_and_gradient():
    images, texts, positives = inputs()
    images.requires_grad_()
    ignored = torch.zeros_like(positives)
    ignored[2] = True
    ignored[4, 1] = True
    scale, bias = torch.tensor(10.0), torch.tensor(-3.0)
    loss = SigmoidLoss()(
        images, texts, scale=scale, bias=bias, positives=positives, ignored=ignored
    )
    expected = naive(images.detach(), texts, 10.0, -3.0, positives, ignored)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert images.grad[2].abs().max() == 0 and images.grad[4].abs().max() > 0


def test_bias_at_the_log_odds_is_where_the_loss_of_blind_features_is_least():
    """What the start of the bias stands for: the share of positives among all pairs."""
    images, texts = torch.ones(4, 3), torch.ones(8, 3)
    positives = torch.zeros(4, 8, dtype=torch.bool)
    positives[:, 0] = True
    bias = torch.zeros((), requires_grad=True)
    with torch.no_grad():
        bias.fill_(math.log((1 / 8) / (7 / 8)))
    SigmoidLoss()(images, texts, scale=torch.tensor(0.0), bias=bias, positives=positives).backward()
    assert bias.grad.abs() < 1e-6


def test_is_float32_under_autocast():
    images, texts, positives = inputs()
    arguments = dict(scale=torch.tensor(50.0), bias=torch.tensor(-5.0), positives=positives)
    plain = SigmoidLoss()(images, texts, **arguments)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = SigmoidLoss()(images, texts, **arguments)
    assert mixed.dtype == torch.float32 and mixed == plain


def test_loss_weight_and_wrong_sizes():
    images, texts, positives = inputs()
    arguments = dict(scale=torch.tensor(1.0), bias=torch.tensor(0.0))
    one, three = (SigmoidLoss(w)(images, texts, positives=positives, **arguments) for w in (1, 3))
    assert three == 3 * one
    with pytest.raises(ValueError, match=r'expected positives of shape \(6, 9\).*\(9, 6\)'):
        SigmoidLoss()(images, texts, positives=positives.T, **arguments)
