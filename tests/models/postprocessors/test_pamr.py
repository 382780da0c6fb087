import pytest
import torch
from oracles import pamr

from mmseg_siglip.models.postprocessors.pamr import PAMRPostProcessor, affinity, neighbours


@pytest.mark.parametrize('size', [(12, 17), (40, 33), (5, 70)])
@pytest.mark.parametrize(('num_iter', 'dilations'), [(1, (1,)), (4, (2, 5)), (10, (8, 16))])
def test_equals_the_materialised_formula(size, num_iter, dilations):
    torch.manual_seed(0)
    images, logits = torch.randn(2, 3, *size), torch.randn(2, 11, *size)
    refine = PAMRPostProcessor(num_iter=num_iter, dilations=dilations, channels=4)
    expected = torch.stack(
        [pamr(*pair, num_iter, dilations) for pair in zip(images, logits, strict=True)]
    )
    torch.testing.assert_close(refine(images, logits), expected, atol=1e-5, rtol=1e-5)


def test_affinity_is_a_distribution_over_neighbours():
    weights = affinity(torch.randn(2, 3, 9, 11), (1, 2))
    assert weights.shape == (2, 16, 9, 11) == (2, len(neighbours((1, 2))), 9, 11)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 9, 11))


def test_flat_image_averages_the_ring():
    logits = torch.zeros(1, 1, 7, 7)
    logits[0, 0, 3, 3] = 8.0
    refined = PAMRPostProcessor(num_iter=1, dilations=(1,))(torch.ones(1, 3, 7, 7), logits)
    expected = torch.zeros(7, 7)
    expected[2:5, 2:5] = 1.0
    expected[3, 3] = 0.0
    torch.testing.assert_close(refined[0, 0], expected)


def test_edges_hold_back_what_leaks():
    images = torch.zeros(1, 3, 8, 16)
    images[..., 8:] = 10.0
    logits = torch.zeros(1, 1, 8, 16)
    logits[..., 8:] = 1.0
    refined = PAMRPostProcessor(num_iter=3, dilations=(1,))(images, logits)[0, 0]
    assert refined[:, :7].max() < 0.05 and refined[:, 9:].min() > 0.95


def test_smaller_logits_are_resized_with_corners_aligned():
    images = torch.randn(1, 3, 20, 30)
    logits = torch.randn(1, 2, 5, 6)
    upsampled = torch.nn.functional.interpolate(
        logits, size=(20, 30), mode='bilinear', align_corners=True
    )
    refine = PAMRPostProcessor(num_iter=2, dilations=(2,))
    torch.testing.assert_close(refine(images, logits), refine(images, upsampled))


def test_no_iterations_change_nothing():
    logits = torch.randn(1, 2, 5, 6)
    refined = PAMRPostProcessor(num_iter=0)(torch.randn(1, 3, 5, 6), logits)
    assert torch.equal(refined, logits)


@pytest.mark.parametrize('options', [dict(num_iter=-1), dict(dilations=()), dict(dilations=(0,))])
def test_refusals(options):
    with pytest.raises(ValueError, match='expected num_iter >= 0 and dilations >= 1'):
        PAMRPostProcessor(**options)
