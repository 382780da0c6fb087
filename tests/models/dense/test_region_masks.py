import pytest
import torch
from torch.nn.functional import interpolate
from torch.testing import assert_close

from mmseg_siglip.models.backbones.planes import whole
from mmseg_siglip.models.dense import region_masks
from mmseg_siglip.models.dense.region_masks import RegionMasks, mask_boxes, paint


def painted(scores, masks, fill, **options):
    return whole([paint(scores, RegionMasks(masks), fill, **options)])[0]


def test_painting():
    masks = torch.tensor([[[1, 1, 0, 0]], [[0, 1, 1, 0]]], dtype=torch.bool)
    scores, fill = torch.tensor([[1.0, 4], [3, 0]]), torch.tensor([[[9.0]], [[7.0]]])
    assert painted(scores, masks, fill).tolist() == [[[1, 2, 3, 9]], [[4, 2, 0, 7]]]
    assert painted(scores, masks, None, add=True).tolist() == [[[1, 4, 3, 0]], [[4, 4, 0, 0]]]
    assert painted(scores[:0], masks[:0], fill).tolist() == [[[9] * 4], [[7] * 4]]


@pytest.mark.parametrize('chunk', [1, 300, 2**24])
@pytest.mark.parametrize('add', [True, False])
def test_some_rows_at_a_time_equal_the_loops(chunk, add, monkeypatch):
    monkeypatch.setattr(region_masks, 'CHUNK_BYTES', chunk)
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(4, 12, 20, generator=generator) > 0.6
    scores, fill = torch.randn(4, 3, generator=generator), torch.randn(3, 3, 5, generator=generator)
    expected = interpolate(fill[None], size=(12, 20), mode='bilinear')[0]
    for y in range(12):
        for x in range(20):
            inside = masks[:, y, x]
            if inside.any():
                total = scores[inside].sum(0)
                expected[:, y, x] = total if add else total / inside.sum()
    planes = paint(scores, RegionMasks(masks), fill, add=add)
    for first, last in ((0, 12), (0, 1), (3, 8)):
        assert_close(planes.rows(first, last), expected[:, first:last])


def test_a_map_stands_for_its_masks(monkeypatch):
    labels = torch.randint(0, 4, (12, 20), generator=torch.Generator().manual_seed(0)) * 7
    names = torch.tensor([7, 14, 21])
    held, masks = RegionMasks(labels, names), labels == names[:, None, None]
    assert len(held) == 3 and held.size == (12, 20)
    assert torch.equal(held.rows(slice(2, 5), slice(0, 9)), masks[:, 2:5, :9])
    kept = torch.tensor([True, False, True])
    assert torch.equal(held[kept].rows(), masks[kept])
    assert torch.equal(held[kept].rows(), RegionMasks(masks)[kept].rows())
    monkeypatch.setattr(region_masks, 'CHUNK_BYTES', 2 * 12 * 20)
    for one in (held, RegionMasks(masks)):
        assert [len(part) for part in one.parts()] == [2, 1]
        assert [len(part) for part in one.parts(pixel_bytes=4)] == [1, 1, 1]
        assert torch.equal(torch.cat([*one.parts()]), masks)
    scores = torch.randn(3, 5)
    assert torch.equal(
        whole([paint(scores, held, None)]), whole([paint(scores, RegionMasks(masks), None)])
    )


def test_boxes():
    masks = torch.rand(6, 40, 72, generator=torch.Generator().manual_seed(3)) > 0.999
    wanted = []
    for mask in masks:
        rows, columns = (where.tolist() for where in mask.nonzero(as_tuple=True))
        wanted.append([min(rows), max(rows) + 1, min(columns), max(columns) + 1])
    assert mask_boxes(masks).tolist() == wanted
    assert mask_boxes(masks[:0]).tolist() == []
