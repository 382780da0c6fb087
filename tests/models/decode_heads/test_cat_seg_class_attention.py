from __future__ import annotations

import pytest
import torch
from torch import nn

from mmseg_siglip.models.decode_heads.cat_seg_class_attention import (
    ClassAggregation,
    linear_attention,
    to_maps,
    to_tokens,
)


def test_linear_attention_by_hand():
    """phi(0) = 1, so equal weights: the mean of the values, padding counted three times."""
    q = k = torch.zeros(1, 2, 1)
    v = torch.tensor([[[1.0], [5.0]]])
    pad = torch.zeros(1, 1, 1), torch.full((1, 1, 1), 3.0)
    torch.testing.assert_close(linear_attention(q, k, v, None, 0), torch.full((1, 2, 1), 3.0))
    torch.testing.assert_close(linear_attention(q, k, v, pad, 0), torch.full((1, 2, 1), 3.0))
    v = torch.tensor([[[1.0], [9.0]]])
    found = linear_attention(q, k, v, pad, 3)
    torch.testing.assert_close(found, torch.full((1, 2, 1), 19 / 5), atol=1e-5, rtol=0)


@torch.no_grad()
def test_places_do_not_mix_and_odd_sides_pool():
    torch.manual_seed(0)
    layer = ClassAggregation(8, 4, num_heads=2, pad_len=6)
    x, guidance = torch.randn(1, 3, 5, 7, 8), torch.randn(1, 3, 4)
    before = layer(x, guidance, pooling=1)
    x[:, :, 2, 3] += 1
    changed = (layer(x, guidance, pooling=1) != before).any(-1).any(1)[0]
    assert changed.nonzero().tolist() == [[2, 3]]
    assert layer(x, guidance, pooling=2).shape == x.shape


@pytest.mark.parametrize('classes', [5, 6, 7])
@pytest.mark.parametrize('with_cp', [False, True])
def test_every_parameter_gets_a_gradient_of_any_number_of_classes(classes, with_cp):
    """For DDP; from as many classes as are padded to, the padding's is 0."""
    torch.manual_seed(0)
    layer = ClassAggregation(8, 4, num_heads=2, pad_len=6)
    nn.init.normal_(layer.padding_tokens)
    nn.init.normal_(layer.padding_guidance)
    x, guidance = torch.randn(2, classes, 3, 3, 8), torch.randn(2, classes, 4)
    found = layer(x, guidance, pooling=1, with_cp=with_cp)
    found.square().sum().backward()
    for name, p in layer.named_parameters():
        assert p.grad is not None, name
        assert p.grad.any() or ('padding' in name and classes >= 6), name
    if classes >= 6:
        plain = ClassAggregation(8, 4, num_heads=2, pad_len=0)
        plain.load_state_dict(layer.state_dict(), strict=False)
        torch.testing.assert_close(plain(x, guidance, pooling=1), found)


def test_maps_and_tokens():
    x = torch.randn(2, 3, 4, 5, 6)
    assert to_maps(x).shape == (6, 6, 4, 5)
    assert torch.equal(to_maps(x)[4, :, 1, 2], x[1, 1, 1, 2])
    assert torch.equal(to_tokens(to_maps(x), 2), x)
