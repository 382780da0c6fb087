"""Readouts against MMSeg's own blocks, and fusion that keeps to the size it is given."""

from __future__ import annotations

import pytest
import torch
from mmseg.models.decode_heads.dpt_head import FeatureFusionBlock
from mmseg.models.decode_heads.dpt_head import ReassembleBlocks as MMSegBlocks

from mmseg_siglip.models.decode_heads.dpt_blocks import FusionBlock, ReassembleBlocks

STAGES = [3, 4, 5, 6]


@pytest.mark.parametrize('readout', ['ignore', 'add', 'project'])
@pytest.mark.parametrize('batch', [1, 2, 3])
def test_pairs_equal_mmsegs_blocks(readout, batch):
    torch.manual_seed(0)
    ours, theirs = (kind(8, STAGES, readout) for kind in (ReassembleBlocks, MMSegBlocks))
    ours.load_state_dict(theirs.state_dict())
    pairs = [(torch.randn(batch, 8, 5, 7), torch.randn(batch, 8)) for _ in range(4)]
    for got, expected in zip(ours(pairs), theirs(pairs), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert [tuple(x.shape[1:]) for x in ours(pairs)] == [
        (3, 20, 28),
        (4, 10, 14),
        (5, 5, 7),
        (6, 3, 4),
    ]


@pytest.mark.parametrize('batch', [1, 2])
def test_tensors_are_taken_and_a_batch_of_two_is_no_pair(batch):
    blocks = ReassembleBlocks(8, STAGES, 'ignore')
    maps = [torch.randn(batch, 8, 4, 4) for _ in range(4)]
    with_readout = [(x, torch.randn(batch, 8)) for x in maps]
    for got, expected in zip(blocks(maps), blocks(with_readout), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize('readout', ['add', 'project'])
def test_refuses_a_missing_readout_and_a_wrong_number_of_taps(readout):
    blocks, x = ReassembleBlocks(8, STAGES, readout), torch.randn(2, 8, 4, 4)
    with pytest.raises(ValueError, match=r'expects \(feature, readout\) pairs, .* at tap 0'):
        blocks([x] * 4)
    with pytest.raises(ValueError, match='expected 4 taps, found 3'):
        blocks([(x, x[..., 0, 0])] * 3)


@pytest.mark.parametrize('norm', [None, dict(type='BN')])
def test_fusion_equals_mmsegs_where_that_does_not_grow(norm):
    torch.manual_seed(0)
    theirs = FeatureFusionBlock(6, dict(type='ReLU'), norm).eval()
    ours = FusionBlock(6, has_skip=True, norm_cfg=norm).eval()
    missing = ours.load_state_dict(theirs.state_dict(), strict=False).missing_keys
    assert all(name.endswith('conv.bias') for name in missing) and bool(missing) == (norm is None)
    x, skip = torch.randn(2, 6, 4, 3), torch.randn(2, 6, 4, 3)
    expected = theirs(x.clone(), skip.clone())
    torch.testing.assert_close(ours(x, skip, (8, 6)), expected, atol=1e-5, rtol=1e-5)


def test_the_first_fusion_has_no_dead_weights():
    block = FusionBlock(6, has_skip=False)
    block(torch.randn(1, 6, 3, 3), None, (5, 5)).sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())
