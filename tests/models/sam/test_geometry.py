import pytest
import torch
from torch.nn.functional import interpolate

from mmseg_siglip.models.sam import SAMFeatures, geometry


def features(sizes, target=(64, 64), resize='pad'):
    contents = tuple(geometry.content_size(size, target, resize) for size in sizes)
    return SAMFeatures(torch.zeros(len(sizes), 4, 8, 8), (), tuple(sizes), contents, target)


@pytest.mark.parametrize(
    ('size', 'expected'), [((40, 80), (32, 64)), ((100, 30), (64, 19)), ((64, 64), (64, 64))]
)
def test_long_side_fills_the_input(size, expected):
    assert geometry.content_size(size, (64, 64), 'pad') == expected
    assert geometry.content_size(size, (64, 64), 'squash') == (64, 64)
    fitted = geometry.fit(torch.ones(3, *size), (64, 64), 'pad')
    assert fitted.shape == (3, 64, 64)
    torch.testing.assert_close(fitted[:, : expected[0], : expected[1]].min(), torch.tensor(1.0))
    assert fitted.sum() == pytest.approx(3 * expected[0] * expected[1], rel=1e-5)


def test_back_to_the_image_as_segment_anything_does(original_sam):
    logits = torch.randn(1, 3, 2, 32, 32)
    expected = original_sam.postprocess_masks(logits[0], (32, 64), (50, 100))
    found = geometry.to_image(logits, features([(50, 100)]))
    torch.testing.assert_close(found[0], expected)
    small = geometry.to_image(logits, features([(50, 100)]), (5, 10))
    torch.testing.assert_close(
        small[0], original_sam.postprocess_masks(logits[0], (32, 64), (5, 10))
    )


def test_squash_needs_one_resize():
    logits = torch.randn(2, 1, 1, 16, 16)
    found = geometry.to_image(logits, features([(20, 30)] * 2, resize='squash'))
    torch.testing.assert_close(found[:, 0], interpolate(logits[:, 0], (20, 30), mode='bilinear'))


def test_or_two_by_way_of_the_input():
    logits = torch.randn(2, 1, 1, 16, 16)
    found = geometry.to_image(logits, features([(20, 30)] * 2, resize='squash'), by_input=True)
    large = interpolate(logits[:, 0], (64, 64), mode='bilinear')
    torch.testing.assert_close(found[:, 0], interpolate(large, (20, 30), mode='bilinear'))


@pytest.mark.parametrize('resize', ['pad', 'squash'])
def test_masks_go_where_their_image_goes(resize):
    image = torch.zeros(3, 20, 40)
    image[:, 5:10, 10:30] = 1
    fitted = geometry.fit(image, (64, 64), resize, antialias=False)[0]
    labels = image[:1].to(torch.uint8)
    masks = geometry.fit_masks(torch.cat([labels, 255 * labels]), (64, 64), resize)
    assert masks.dtype == torch.uint8 and torch.equal(masks[1], 255 * masks[0])
    assert torch.equal(masks[0] > 0, fitted >= 0.5)


def test_a_map_that_fits_already_is_left_as_it_is():
    maps = torch.randn(1, 2, 16, 16)
    whole = features([(64, 64)])
    assert geometry.from_image(maps, whole, (16, 16)) is maps
    assert geometry.from_image(maps, whole, (16, 16), coverage=(0.9, 1.0)) is not maps
    part = geometry.from_image(maps, features([(32, 64)]), (16, 16), outside=torch.tensor(-3.0))
    assert part.shape == maps.shape and (part[:, :, 8:] == -3).all()


def test_points_follow_their_image():
    moved = geometry.to_input(
        torch.tensor([[[100.0, 50.0]], [[15.0, 50.0]]]), features([(50, 100), (100, 30)])
    )
    torch.testing.assert_close(moved, torch.tensor([[[64.0, 32.0]], [[9.5, 32.0]]]))


def test_maps_over_the_image_land_in_its_content():
    maps = torch.randn(1, 2, 5, 10)
    squashed = geometry.from_image(maps, features([(50, 100)], resize='squash'), (20, 40))
    torch.testing.assert_close(
        squashed, interpolate(maps, (20, 40), mode='bilinear'), atol=1e-5, rtol=1e-5
    )
    padded = geometry.from_image(maps, features([(50, 100)]), (32, 32), outside=-9.0)
    assert (padded[..., 16:, :] == -9).all()
    torch.testing.assert_close(
        padded[..., :16, :], interpolate(maps, (16, 32), mode='bilinear'), atol=1e-5, rtol=1e-5
    )


def test_a_grid_that_stops_short_of_the_image_keeps_its_scale():
    """27 patches of 14 pixels over 384: pixel 371 lies in the last patch, not 16 pixels off."""
    ramp = (torch.arange(27.0) * 14 + 7).expand(1, 1, 27, 27)  # centre of each column, in pixels
    placed = geometry.from_image(
        ramp, features([(384, 384)], (384, 384)), (384, 384), coverage=(378 / 384, 378 / 384)
    )
    columns = torch.arange(384) + 0.5
    inside = slice(8, 370)
    torch.testing.assert_close(placed[0, 0, 100, inside], columns[inside], atol=1e-2, rtol=0)
    naive = interpolate(ramp, (384, 384), mode='bilinear')[0, 0, 100, inside]
    assert (naive - columns[inside]).abs().max() > 5


def test_iou_by_hand():
    a = torch.tensor([[[1, 1, 0]], [[0, 0, 0]], [[1, 0, 0]]]).bool()
    b = torch.tensor([[[0, 1, 1]], [[0, 0, 0]], [[0, 0, 0]]]).bool()
    torch.testing.assert_close(geometry.mask_iou(a, b), torch.tensor([1 / 3, 1, 0]))
