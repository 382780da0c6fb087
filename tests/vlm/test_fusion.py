"""Depth on the token grid, whatever the image processor cuts."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessor, SiglipImageProcessor, SiglipVisionConfig

from mmseg_siglip.vlm.fusion import check_depths, depth_statistics, seen
from mmseg_siglip.vlm.processing import set_size

SENTENCE = r'depth: expected a map of the shape of image 1 of 1, 40 x 64 \(height x width\), or'


class Config:
    def __init__(self, patch, image, **depth):
        self.vision_config = SiglipVisionConfig(patch_size=patch, image_size=image)
        self.depth_fusion = dict(names=('mean', 'min'), space='depth') | depth


def processor(height, width):
    return SiglipImageProcessor(size=dict(height=height, width=width))


def test_each_token_sums_up_its_part():
    depth = torch.rand(48, 64, generator=torch.Generator().manual_seed(0)) + 1
    found = depth_statistics([depth, depth * 2], processor(32, 64), Config(16, 32))
    assert found.shape == (2, 8, 2)
    for row in range(2):
        for column in range(4):
            part = depth[24 * row : 24 * row + 24, 16 * column : 16 * column + 16]
            expected = torch.stack([part.mean(), part.min()])
            torch.testing.assert_close(found[0, 4 * row + column], expected)
            torch.testing.assert_close(found[1, 4 * row + column], 2 * expected)


def test_pixels_that_no_patch_covers_do_not_count():
    """384 pixels in patches of 14: the last six rows and columns reach no token."""
    depth = torch.ones(384, 384)
    depth[378:] = depth[:, 378:] = 100
    found = depth_statistics([depth], processor(384, 384), Config(14, 384))
    assert found.shape == (1, 729, 2) and (found == 1).all()
    depth[377, 377] = 0.5
    found = depth_statistics([depth], processor(384, 384), Config(14, 384))
    assert found[0, -1, 1] == 0.5 and (found[0, :-1] == 1).all()


def test_unknown_depth_and_other_spaces():
    depth = torch.full((32, 32), 4.0)
    depth[:16, :16] = 0
    found = depth_statistics([depth], processor(32, 32), Config(16, 32, space='inverse'))
    assert torch.isnan(found[0, 0]).all() and (found[0, 1:] == 0.25).all()


@pytest.mark.parametrize('size', [(50, 80), (90, 40), (32, 32)])
def test_depth_is_cropped_as_the_image_is(size):
    """A picture whose red channel is its depth: both see the same window."""
    crop = CLIPImageProcessor(do_normalize=False, do_rescale=False, resample=2)
    set_size(crop, CLIP, (32, 32))
    rows, columns = np.mgrid[: size[0], : size[1]]
    ramp = torch.from_numpy(1.0 + rows + columns).float()
    pixels = torch.stack([ramp] * 3).byte()
    image = crop([pixels], return_tensors='pt').pixel_values[0, 0].float()
    (top, bottom), (left, right) = seen(crop, size)
    window = ramp[top:bottom, left:right][None, None]
    resized = torch.nn.functional.interpolate(window, (32, 32), mode='bilinear', antialias=True)
    assert (resized[0, 0] - image)[2:-2, 2:-2].abs().max() < 3
    assert (bottom - top, right - left) == (min(size), min(size))


class CLIP:
    model_type = 'clip_vision_model'


@pytest.mark.parametrize(
    ('size', 'fits', 'fits_a_crop'),
    [
        ((40, 64), True, True),
        ((20, 32), True, True),
        ((13, 20), True, True),  # 12.5 x 20
        ((80, 127), True, True),
        ((32, 32), True, False),
        ((64, 40), False, False),
        ((33, 32), False, False),
    ],
)
def test_maps_are_of_their_pictures(size, fits, fits_a_crop):
    """A map at the side of an image that EXIF turns is not turned by anybody."""
    crop = CLIPImageProcessor()
    set_size(crop, CLIP, (32, 32))
    for prepares, fine in ((processor(32, 32), fits), (crop, fits_a_crop)):
        with nullcontext() if fine else pytest.raises(ValueError, match=SENTENCE):
            check_depths([torch.ones(size)], [(40, 64)], prepares, Config(16, 32))


def test_bad_input():
    config = Config(16, 32)
    with pytest.raises(ValueError, match=r'expected \(H, W\), found \(1, 4, 4\)'):
        depth_statistics([torch.ones(1, 4, 4)], processor(32, 32), config)
    with pytest.raises(ValueError, match='grid: expected 1 to 1 x 1 to 1 patches'):
        depth_statistics([torch.ones(1, 1)], processor(32, 32), config)
    with pytest.raises(ValueError, match=r'image 1 of 1: expected a tensor .* found a ndarray'):
        check_depths([torch.ones(32, 32).numpy()], [(32, 32)], processor(32, 32), config)
    config.depth_fusion = None
    with pytest.raises(ValueError, match='no depth fusion; see add_depth_fusion'):
        depth_statistics([torch.ones(4, 4)], processor(32, 32), config)
