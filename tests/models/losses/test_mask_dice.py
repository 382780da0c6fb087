import pytest
import torch
from mmseg.models.losses import DiceLoss

from mmseg_siglip.models.losses import MaskDiceLoss


def test_equals_the_formula_and_leaves_out_the_ignored():
    logits = torch.randn(2, 3, 4, requires_grad=True)
    masks = torch.tensor([0, 1, 255])[torch.randint(3, (2, 3, 4))].to(torch.uint8)
    found = MaskDiceLoss(loss_weight=2.0)(logits, masks)
    for one, z, y in zip(found, logits, masks, strict=True):
        p, y = z.sigmoid()[y != 255], y[y != 255].float()
        expected = 2 * (1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1))
        assert one.item() == pytest.approx(expected.item(), rel=1e-5)
    found.sum().backward()
    assert (logits.grad[masks == 255] == 0).all() and (logits.grad[masks != 255] != 0).all()


def test_perfect_and_empty():
    masks = torch.zeros(2, 4, 4)
    masks[0, :2] = 1
    logits = torch.where(masks == 1, 50.0, -50.0)
    torch.testing.assert_close(MaskDiceLoss()(logits, masks), torch.zeros(2))
    assert MaskDiceLoss()(-logits, masks)[0] > 0.9


def test_squares_as_in_mmsegmentation():
    logits = torch.randn(3, 6, 7)
    masks = torch.randint(2, (3, 6, 7))
    masks[2] = 0
    found = MaskDiceLoss(squared=True, loss_weight=5.0)(logits, masks)
    expected = DiceLoss(use_sigmoid=True, loss_weight=5.0)(logits[:, None], masks[:, None])
    torch.testing.assert_close(found.mean(), expected)
    ignored = masks.clone()
    ignored[:, :2] = 255
    cropped = MaskDiceLoss(squared=True)(logits[:, 2:], masks[:, 2:])
    torch.testing.assert_close(MaskDiceLoss(squared=True)(logits, ignored), cropped)
