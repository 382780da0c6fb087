from __future__ import annotations

import pytest
import torch
from cat_seg_oracle import PlainSwin

from mmseg_siglip.models.decode_heads.cat_seg_swin import (
    SpatialAggregation,
    SwinBlock,
    SwinWindows,
)


@pytest.mark.parametrize('grid', [(24, 24), (14, 14), (16, 27), (32, 5), (12, 13), (1, 1)])
@pytest.mark.parametrize('shift', [0, 6])
def test_merge_undoes_partition(grid, shift):
    x = torch.randn(2, 3, *grid, 4)
    windows = SwinWindows(grid, 12, shift)
    parts = windows.partition(x)
    assert parts.shape[2] == windows.counts[0] * windows.counts[1]
    assert torch.equal(windows.merge(parts), x)


def test_mask_by_hand():
    """Four in a row, windows of two, shifted by one: the last window holds both ends."""
    windows = SwinWindows((1, 4), 2, 1)
    assert windows.sides == (1, 2) and windows.shifts == (0, 1)
    assert windows.mask(torch.device('cpu')).tolist() == [
        [[True, True], [True, True]],
        [[True, False], [False, True]],
    ]
    assert SwinWindows((1, 4), 2).mask(torch.device('cpu')) is None
    padded = SwinWindows((1, 3), 2).mask(torch.device('cpu'))
    assert padded.tolist() == [[[True, True], [True, True]], [[True, False], [False, True]]]


@pytest.mark.parametrize('grid', [(24, 24), (14, 30), (7, 16)])
@torch.no_grad()
def test_block_equals_attention_over_the_grid_with_a_mask(grid):
    torch.manual_seed(0)
    plain = PlainSwin(16, 8, 2, 12, 6)
    block = SwinBlock(16, 8, num_heads=2, window=12, shift=6)
    state = plain.state_dict()
    for old, new in (('mlp.fc1', 'mlp.0'), ('mlp.fc2', 'mlp.2')):
        state = {name.replace(old, new): value for name, value in state.items()}
    block.load_state_dict(state)
    x, guidance = torch.randn(1, 3, *grid, 16), torch.randn(1, 1, *grid, 8)
    flat = guidance.flatten(2, 3)[0].expand(3, -1, -1)
    wanted = plain(x.flatten(2, 3)[0], flat, *grid).view_as(x)
    torch.testing.assert_close(block(x, guidance), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('grid', [(10, 10), (8, 12), (3, 4), (1, 1), (5, 9)])
@pytest.mark.parametrize('shift', [0, 2])
def test_no_mask_where_all_tokens_see_each_other(grid, shift):
    """What integers say beforehand is what the mask would have said."""
    windows = SwinWindows(grid, 4, shift)
    mask = windows.mask(torch.device('cpu'))
    plain = mask is None
    assert plain == (not any(windows.shifts) and not any(n % min(n, 4) for n in grid))
    assert plain or not mask.all()


@pytest.fixture
def aggregation():
    torch.manual_seed(0)
    data = torch.randn(1, 3, 10, 10, 16), torch.randn(1, 10, 10, 8)
    return SpatialAggregation(16, 8, num_heads=2, window=4), data


def test_it_trains_after_inference_mode(aggregation):
    module, data = aggregation
    with torch.inference_mode():
        expected = module(*data)
    result = module(*data)
    torch.testing.assert_close(result, expected)
    result.sum().backward()
    assert all(p.grad is not None for p in module.parameters())


@torch.no_grad()
def test_it_exports_and_its_eager_form_survives(aggregation):
    module, data = aggregation
    exported = torch.export.export(module, data).module()
    expected = module(*data)
    assert type(expected) is torch.Tensor
    torch.testing.assert_close(exported(*data), expected)
