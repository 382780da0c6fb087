import pytest
import torch
from torch.nn.functional import interpolate

from mmseg_siglip.models.postprocessors.mask_labels import label_map
from mmseg_siglip.models.regions import resize_regions


@pytest.mark.parametrize('size', [(14, 21), (3, 5), (75, 60), (37, 53), (1, 1), (74, 106)])
def test_resizing_is_torchs_nearest(size):
    regions = torch.arange(37 * 53).reshape(37, 53)
    wanted = interpolate(regions[None, None].double(), size=size, mode='nearest')[0, 0].long()
    assert torch.equal(resize_regions(regions, size), wanted)
    masks = torch.stack([regions % 3 == 0, regions > 900])
    assert torch.equal(resize_regions(masks, size), torch.stack([wanted % 3 == 0, wanted > 900]))
    assert resize_regions(masks[:0], size).shape == (0, *size)


def test_larger_masks_are_painted_later():
    small, large = torch.zeros(2, 4, 4, dtype=torch.bool)
    small[1, 1:3] = True
    large[:3] = True
    assert label_map(torch.stack([small, large])).tolist() == [[2] * 4] * 3 + [[0] * 4]
    assert label_map(torch.stack([large, small])).tolist() == [[1] * 4] * 3 + [[0] * 4]
    assert not label_map(large[None][:0]).any()
    labels = torch.tensor([[5, 0]])
    assert label_map(labels) is labels
