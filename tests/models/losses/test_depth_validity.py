"""Which pixels count, by hand."""

from __future__ import annotations

import pytest
import torch

from mmseg_siglip.models.losses.depth_validity import (
    check_shapes,
    inverse_depth,
    masked_mean,
    mean_over_images,
    valid_depth,
)

NAN, INF = float('nan'), float('inf')


def test_bounds_are_open_below_and_closed_above():
    truth = torch.tensor([[[0.0, 1.0, 1.5, 10.0, 10.1, -1.0, NAN, INF, -INF]]])
    assert valid_depth(truth, 1.0, 10.0).int().flatten().tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 0]
    assert not valid_depth(torch.tensor([[[INF]]]), 0.0, INF).any()


def test_means_of_each_image_survive_what_does_not_count():
    values = torch.tensor([[[1.0, NAN], [3.0, 5.0]], [[NAN, NAN], [INF, 7.0]]])
    mask = torch.tensor([[[1, 0], [1, 1]], [[0, 0], [0, 0]]], dtype=torch.bool)
    assert masked_mean(values, mask).tolist() == [3.0, 0.0]


def test_the_mean_is_over_images_that_have_a_pixel():
    mask = torch.tensor([[[True]], [[False]], [[True]]])
    values = torch.tensor([2.0, 100.0, 4.0], requires_grad=True)
    mean_over_images(values, mask).backward()
    assert values.grad.tolist() == [0.5, 0.0, 0.5]
    nothing = torch.tensor([3.0], requires_grad=True)
    result = mean_over_images(nothing, torch.zeros(1, 2, 2, dtype=torch.bool))
    result.backward()
    assert result == 0 and nothing.grad.tolist() == [0.0]


def test_inverse_depth():
    depth = torch.tensor([[[0.5, 0.0, 4.0]]], requires_grad=True)
    inverse = inverse_depth(depth, torch.tensor([[[True, False, True]]]))
    assert inverse.flatten().tolist() == [2.0, 0.0, 0.25]
    inverse.sum().backward()
    assert depth.grad.flatten().tolist() == [-4.0, 0.0, -0.0625]


@pytest.mark.parametrize('shapes', [((1, 2, 2), (2, 2, 2)), ((2, 2), (2, 2))])
def test_nothing_is_broadcast(shapes):
    a, b = map(torch.zeros, shapes)
    with pytest.raises(ValueError, match=r'L: expected prediction and truth of one shape'):
        check_shapes(a, b, 'L')
