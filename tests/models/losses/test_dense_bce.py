from __future__ import annotations

import pytest
import torch
from cat_seg_oracle import plain_loss

from mmseg_siglip.models.losses import DenseBCELoss


@pytest.mark.parametrize('ignore_as_negative', [True, False])
@pytest.mark.parametrize('void', [0.0, 0.3, 1.0])
def test_equals_one_hot_and_pytorch(ignore_as_negative, void):
    torch.manual_seed(0)
    logits = torch.randn(2, 6, 9, 7, requires_grad=True)
    labels = torch.randint(0, 6, (2, 9, 7))
    labels[torch.rand(labels.shape) < void] = 255
    loss = DenseBCELoss(ignore_as_negative=ignore_as_negative)(logits, labels)
    (found,) = torch.autograd.grad(loss, logits)
    if void == 1 and not ignore_as_negative:
        assert loss == 0 and not found.any()
        return
    wanted = plain_loss(logits, labels, ignore_as_negative=ignore_as_negative)
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(found, torch.autograd.grad(wanted, logits)[0])


def test_what_an_ignored_pixel_means():
    """As a negative it has a gradient for every class; left out it has none."""
    for as_negative in (True, False):
        logits = torch.zeros(1, 3, 1, 2, requires_grad=True)
        loss = DenseBCELoss(ignore_as_negative=as_negative)(logits, torch.tensor([[[1, 255]]]))
        loss.backward()
        assert bool(logits.grad[..., 1].all()) is as_negative
        assert logits.grad[0, 1, 0, 0] < 0 < logits.grad[0, 0, 0, 0]


def test_refusals():
    loss = DenseBCELoss()
    with pytest.raises(ValueError, match='found label 181 in the masks, expected a class from 0'):
        loss(torch.zeros(1, 171, 1, 2), torch.tensor([[[3, 181]]]))
    with pytest.raises(ValueError, match='ignore_index=255 is one of the 300 classes, which would'):
        loss(torch.zeros(1, 300, 1, 2), torch.tensor([[[3, 255]]]))
    with pytest.raises(ValueError, match='expected labels .1, 4, 4., found .1, 3, 4.'):
        loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, dtype=torch.long))
