import torch

from mmseg_siglip.models.backbones.planes import Planes, whole


def test_whole_is_all_rows_of_each():
    held = torch.randn(2, 3, 4, 5)
    planes = [Planes((4, 5), lambda first, last, one=one: one[:, first:last]) for one in held]
    assert torch.equal(whole(planes), held)
    assert torch.equal(planes[1].rows(1, 3), held[1, :, 1:3])
