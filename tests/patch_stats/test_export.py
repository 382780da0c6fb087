"""What is written comes back; means and deviations leave out what is unknown."""

from __future__ import annotations

import pytest
import torch

from mmseg_siglip.patch_stats import patch_statistics
from mmseg_siglip.patch_stats.export import FORMATS, Moments


@pytest.mark.parametrize('name', FORMATS)
def test_a_file_holds_the_statistics(name):
    statistics = patch_statistics(torch.rand(1, 6, 8) + 1, grid=(2, 3))
    encode, decode = FORMATS[name]
    assert torch.equal(decode(encode(statistics)), statistics.values[0])


def test_moments_by_hand():
    moments = Moments(2)
    moments.add(torch.tensor([[1.0, 5.0], [float('nan'), 5.0]]))
    moments.add(torch.tensor([[4.0, 5.0]]))
    assert moments.summary() == dict(mean=[2.5, 5.0], std=[1.5, 1.0])
