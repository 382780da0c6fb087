"""Our grid against the package's own automatic generator, the same small weights in both."""

import pytest
import torch

from mmseg_siglip.models.sam import SAMPointGrid, SegmentAnythingGrid
from mmseg_siglip.models.sam.generator import load_original

OPTIONS = dict(points_per_side=4, points_per_batch=8)


@pytest.fixture(scope='module')
def image():
    """Whole bytes, since the package's generator takes no others; as large as SAM's input."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 64, 64), generator=generator).float() / 255


def iou(a, b):
    return ((a & b).sum() / (a | b).sum()).item()


def masks_of(proposals, size):
    return torch.cat([masks for _, masks in proposals.masks(size)])


def test_finds_the_masks_of_the_package(original_sam, original_sam_file, image):
    """Without suppression both keep every proposal. Ours judges on SAM's small masks, theirs on
    full-size ones through run lengths, so the masks themselves are what has to agree."""
    theirs = SegmentAnythingGrid(
        original_sam,
        pred_iou_thresh=-10.0,
        stability_score_thresh=0.0,
        box_nms_thresh=1.0,
        **OPTIONS,
    )
    ours = SAMPointGrid(
        dict(type='SAMAdapter', checkpoint=original_sam_file),
        min_iou=-10.0,
        min_stability=0.0,
        max_iou=1.0,
        **OPTIONS,
    )
    size = (64, 64)
    found, expected = masks_of(ours(image), size), masks_of(theirs(image), size)
    expected = expected[expected.flatten(1).any(1)]
    assert len(expected) > 5
    best = torch.tensor([max(iou(mask, other) for other in found) for mask in expected])
    assert (best > 0.99).float().mean() > 0.95, best
    back = torch.tensor([max(iou(mask, other) for other in expected) for mask in found])
    assert (back > 0.99).float().mean() > 0.95, back


def test_sizes_and_nothing_found(original_sam):
    image = torch.rand(3, 30, 50)
    options = dict(OPTIONS, stability_score_thresh=0.0)
    loose = SegmentAnythingGrid(original_sam, pred_iou_thresh=-10.0, **options)
    found = loose(image)
    assert len(found) and masks_of(found, (60, 100)).shape == (len(found), 60, 100)
    none = SegmentAnythingGrid(original_sam, pred_iou_thresh=10.0, **options)(image)
    assert len(none) == 0 and none.logits.shape == (0, 30, 50)


def test_published_files_only(original_sam_file, tmp_path):
    with pytest.raises(ValueError, match='expected a width of 768, 1024, 1280, found 32'):
        load_original(original_sam_file)
    torch.save(dict(a=torch.ones(2)), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='expected weights of segment-anything'):
        load_original(str(tmp_path / 'other.pth'))
