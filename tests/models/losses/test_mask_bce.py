import pytest
import torch

from mmseg_siglip.models.losses import MaskBCELoss


def test_equals_the_formula_and_leaves_out_the_ignored():
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    masks = torch.tensor([0, 1, 255])[torch.randint(3, (2, 3, 4))].to(torch.uint8)
    expected = []
    for z, y in zip(logits, masks, strict=True):
        p = z.sigmoid()
        terms = [
            -(p[i, j].log() if y[i, j] == 1 else (1 - p[i, j]).log())
            for i in range(3)
            for j in range(4)
            if y[i, j] != 255
        ]
        expected.append(3 * torch.stack(terms).mean())
    found = MaskBCELoss(loss_weight=3.0)(logits, masks)
    torch.testing.assert_close(found, torch.stack(expected))
    found.sum().backward()
    assert (logits.grad[masks == 255] == 0).all() and (logits.grad[masks != 255] != 0).all()


def test_all_ignored_is_no_loss():
    logits = torch.randn(1, 2, 2, requires_grad=True)
    loss = MaskBCELoss()(logits, torch.full((1, 2, 2), 255))
    loss.sum().backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_a_phrase_weighs_the_same_whatever_its_image_size():
    loss = MaskBCELoss()
    small, large = torch.zeros(1, 2, 2), torch.zeros(1, 8, 8)
    assert loss(small, small).item() == pytest.approx(loss(large, large).item())
