from __future__ import annotations

import pytest
import torch

from mmseg_siglip.weights.finite import refuse_not_finite

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_one_value_anywhere_is_found(dtype, value):
    for size in (1, 17, 1000):
        for place in {0, size // 2, size - 1}:
            weight = torch.randn(size).to(dtype)
            weight[place] = value
            with pytest.raises(ValueError, match=rf'^x: .* found 1 of {size} in b that are NaN'):
                refuse_not_finite(dict(a=torch.ones(2), b=weight), 'x')


def test_large_values_are_finite():
    state = {
        str(dtype): torch.full((1000,), torch.finfo(dtype).max, dtype=dtype) for dtype in DTYPES
    }
    state |= dict(none=torch.zeros(0), whole=torch.arange(3), flags=torch.tensor([True]))
    state['short'] = torch.ones(2).to(torch.float8_e4m3fn)
    refuse_not_finite(state, 'x')


def test_eight_bits():
    weight = torch.tensor([1.0, float('nan')]).to(torch.float8_e4m3fn)
    with pytest.raises(ValueError, match='1 of 2 in w'):
        refuse_not_finite(dict(w=weight), 'x')
