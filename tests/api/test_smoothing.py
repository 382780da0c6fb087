import numpy as np
import pytest
import torch

from mmseg_siglip.api.smoothing import ExponentialAverage


@pytest.mark.parametrize('strength', [0.0, 0.7, 0.95])
def test_the_average_is_its_formula_written_as_a_sum(strength):
    scores = torch.rand(6, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    average = ExponentialAverage(strength)
    for t in range(6):
        found = average(scores[t])
        weights = [(1 - strength) * strength ** (t - k) for k in range(t + 1)]
        weights[0] = strength**t
        assert np.isclose(sum(weights), 1)
        expected = sum(w * scores[k].double() for k, w in enumerate(weights))
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


def test_what_it_is_given_stays_as_it_is():
    first, average = torch.ones(2, 3), ExponentialAverage(0.5)
    average(first)
    average(torch.zeros(2, 3))
    assert (first == 1).all()


def test_another_size_begins_anew():
    average = ExponentialAverage(0.9)
    average(torch.ones(2, 3))
    assert (average(torch.zeros(3, 3)) == 0).all()


@pytest.mark.parametrize('strength', [-0.1, 1, float('nan')])
def test_strengths_out_of_range(strength):
    with pytest.raises(ValueError, match='smooth: expected 0 to below 1, found'):
        ExponentialAverage(strength)
