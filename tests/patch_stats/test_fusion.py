"""Fusion: the identity at first, every parameter there and trained."""

from __future__ import annotations

import pytest
import torch

from mmseg_siglip.patch_stats import PatchStatisticsFusion


@pytest.mark.parametrize('width', [0, 7])
def test_identity_at_first_and_trains_from_the_first_step(width):
    torch.manual_seed(0)
    fusion = PatchStatisticsFusion(4, 6, mean=[1, 2, 3, 4], std=[1, 1, 2, 2], width=width)
    before = {name for name, _ in fusion.named_parameters()}
    assert before
    features, statistics = torch.randn(2, 9, 6), torch.randn(2, 9, 4)
    assert torch.equal(fusion(features, statistics), features)
    optimizer = torch.optim.SGD(fusion.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (fusion(features, statistics) - 1).square().mean().backward()
        optimizer.step()
    assert all(p.grad.abs().sum() > 0 for p in fusion.parameters())
    assert not torch.equal(fusion(features, statistics), features)
    assert {name for name, _ in fusion.named_parameters()} == before


def test_normalises_and_takes_what_is_missing_for_average():
    fusion = PatchStatisticsFusion(2, 1, mean=[10, 0], std=[5, 1])
    torch.nn.init.ones_(fusion.last.weight)
    features = torch.zeros(1, 3, 1)
    statistics = torch.tensor([[[15.0, 0], [float('nan'), 2], [10, float('inf')]]])
    assert fusion(features, statistics).flatten().tolist() == [1, 2, 0]
    half = fusion(features.bfloat16(), statistics)
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (dict(names=('mean',), sapce='log'), 'expected names and maybe space, .* found sapce'),
        (dict(space='log'), 'expected names and maybe .* found no names'),
        (dict(names=('mena',)), 'names: expected some of mean, .* found mena'),
        (dict(names=('mean', 'mean')), 'names: expected .* each once, found mean'),
        (dict(names=('mean',), space='logs'), "space: expected one of depth, .* found 'logs'"),
    ],
)
def test_an_option_that_would_have_no_effect(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        PatchStatisticsFusion.from_options(options, 8)


def test_bad_input():
    with pytest.raises(ValueError, match='mean: expected 3 values, found 2'):
        PatchStatisticsFusion(3, 4, mean=[1, 2])
    with pytest.raises(ValueError, match='std: expected positive values, found 0'):
        PatchStatisticsFusion(2, 4, std=[1, 0])
    with pytest.raises(ValueError, match=r'expected \(1, 4, 2\) beside .* found \(1, 5, 2\)'):
        PatchStatisticsFusion(2, 4)(torch.zeros(1, 4, 4), torch.zeros(1, 5, 2))
