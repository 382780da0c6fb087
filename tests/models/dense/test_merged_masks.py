import pytest
import torch

from mmseg_siglip.models.dense import merged_masks
from mmseg_siglip.models.dense.merged_masks import box_iou, merged


def naive(masks):
    """Pair by pair, pixel by pixel."""

    def box(mask):
        rows, columns = (where.tolist() for where in mask.nonzero(as_tuple=True))
        pixels = range(min(rows), max(rows) + 1), range(min(columns), max(columns) + 1)
        return {(y, x) for y in pixels[0] for x in pixels[1]}

    def same(a, b):
        if not (a.any() and b.any()):
            return False
        contained = (a & b).sum() / min(a.sum(), b.sum())
        return contained > 0.8 and len(box(a) & box(b)) / len(box(a) | box(b)) > 0.2

    left, found = list(range(len(masks))), []
    while left:
        first, *others = left
        taken = [other for other in others if same(masks[first], masks[other])]
        found.append(torch.stack([masks[i] for i in (first, *taken)]).any(0))
        left = [i for i in others if i not in taken]
    return torch.stack(found)


@pytest.fixture
def masks():
    """Boxes of all sizes, some in others, one empty and some with holes."""
    generator, found = torch.Generator().manual_seed(5), []
    for _ in range(40):
        y, x, height, width = (torch.rand(4, generator=generator) * 12).long().tolist()
        mask = torch.zeros(16, 20, dtype=torch.bool)
        mask[y : y + height + 2, x : x + width + 2] = True
        found.append(mask & (torch.rand(16, 20, generator=generator) > 0.1))
    return torch.stack([*found, torch.zeros(16, 20, dtype=torch.bool)])


@pytest.mark.parametrize('chunk', [1, 2**24])
def test_merging_equals_the_loops(masks, chunk, monkeypatch):
    monkeypatch.setattr(merged_masks, 'CHUNK_BYTES', chunk)
    found = merged(masks)
    assert 5 < len(found) < 35
    assert torch.equal(found, naive(masks))


def test_a_mask_takes_in_what_lies_in_it_or_around_it_and_comes_later():
    masks = torch.zeros(5, 10, 30, dtype=torch.bool)
    masks[0, :, :10] = True
    masks[1, 2:4, 2:4] = True  # in the first, but its box is a small part
    masks[2, :, 1:9] = True
    masks[3, :, :12] = True
    masks[4, :, 9:18] = True  # touches the fourth in 3 of 9 columns
    found = merged(masks)
    assert len(found) == 3 and torch.equal(found[0], masks[3])
    assert torch.equal(found[1], masks[1]) and torch.equal(found[2], masks[4])
    assert merged(masks[:0]).shape == (0, 10, 30)
    assert torch.equal(merged(masks[:1]), masks[:1])


def test_box_iou():
    boxes = torch.tensor([[0, 2, 0, 2], [1, 3, 1, 3], [5, 9, 5, 9]])
    expected = torch.tensor([[1, 1 / 7, 0], [1 / 7, 1, 0], [0, 0, 1]])
    torch.testing.assert_close(box_iou(boxes), expected)
