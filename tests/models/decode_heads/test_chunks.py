"""Slices give what the whole gives, gradients included."""

from __future__ import annotations

import pytest
import torch

from mmseg_siglip.models.decode_heads.chunks import in_chunks


@pytest.fixture
def calls():
    return []


@pytest.fixture
def square(calls):
    """Its own function, which notes the length of each slice."""

    def square(x):
        calls.append(x.shape[1])
        return x * x

    return square


def test_slices_are_put_together_in_order(square, calls):
    x = torch.randn(2, 7, 3)
    with torch.no_grad():
        assert torch.equal(in_chunks(square, x, dim=1, size=3), x * x)
    assert calls == [3, 3, 1]


@pytest.mark.parametrize(('size', 'expected'), [(0, [1] * 7), (7, [7]), (8, [7])])
def test_sizes_at_the_edge(square, calls, size, expected):
    with torch.no_grad():
        in_chunks(square, torch.ones(1, 7), dim=1, size=size)
    assert calls == expected


def test_gradients_are_the_same_with_and_without_recomputing(square, calls):
    x = torch.randn(2, 7, dtype=torch.double, requires_grad=True)
    (whole,) = torch.autograd.grad((x * x).sum(), x)
    (plain,) = torch.autograd.grad(in_chunks(square, x, dim=1, size=3).sum(), x)
    assert calls == [7]  # cutting would save nothing
    calls.clear()
    found = in_chunks(square, x, dim=1, size=3, with_cp=True).sum()
    assert calls == [3, 3, 1]
    (again,) = torch.autograd.grad(found, x)
    assert len(calls) == 6  # each slice once more in the backward pass
    assert torch.equal(plain, whole) and torch.equal(again, whole)
