"""Factor and term of cosines as numbers; `tests/contracts/encoder.py` asks the rest of encoders."""

import math

import pytest
import torch
from torch import nn

from mmseg_siglip.models.backbones.text_side import TextSide


class Side(TextSide, nn.Module):
    """With a count of how often it reads its weights."""

    def __init__(self, bias):
        nn.Module.__init__(self)
        self.model, self.reads = nn.Module(), 0
        self.model.logit_scale = nn.Parameter(torch.tensor([2.0]).log())
        if bias is not None:
            self.model.logit_bias = nn.Parameter(torch.tensor([bias]))

    def logit_parameters(self):
        self.reads += 1
        return super().logit_parameters()


@pytest.fixture
def side(monkeypatch):
    monkeypatch.setattr(Side, '__abstractmethods__', frozenset(), raising=False)
    return Side


def test_without_a_term_it_is_zero(side):
    assert side(None).logit_bias == 0.0 and side(-3.0).logit_bias == -3.0
    assert [len(side(bias).logit_weights()) for bias in (None, 1.0)] == [1, 2]


def test_weights_are_read_where_they_change(side):
    found = side(1.0)
    for _ in range(3):
        assert found.logit_scale == pytest.approx(2.0) and found.logit_bias == 1.0
    assert found.reads == 1
    with torch.no_grad():
        found.model.logit_scale += math.log(2)
    assert found.logit_scale == pytest.approx(4.0) and found.reads == 2
    found.model.logit_bias = nn.Parameter(torch.tensor([5.0]))
    assert found.logit_bias == 5.0 and found.reads == 3
    found.model.logit_scale.data.zero_()
    assert found.eval().logit_scale == pytest.approx(1.0)
    with torch.inference_mode():
        found.model.logit_scale = nn.Parameter(torch.tensor([3.0]).log())
        assert found.logit_scale == pytest.approx(3.0), 'whose changes are not counted'
