"""Decoders of transformers' TIPS v2 DPT in `TIPSHead` and back: the same taps, the same numbers."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from tiny_depth_models import CHANNELS, STAGES, WIDTH, save, tips, tips_config
from torch.nn.functional import interpolate, normalize
from transformers import (
    Tipsv2DptForDensePrediction,
    Tipsv2DptForDepthEstimation,
    Tipsv2DptForNormalEstimation,
)

from mmseg_siglip.models.adapters.tips_dpt import (
    fill_tips_dpt,
    from_tips_dpt,
    load_tips_dpt,
    to_tips_dpt,
)
from mmseg_siglip.models.decode_heads import TIPSHead

GRIDS = [(4, 6), (5, 7)]
OPTIONS = dict(
    patch_size=14, channels=CHANNELS, post_process_channels=STAGES, readout_type='project'
)
DEPTH = dict(output='bins', num_bins=32, **OPTIONS)
NORMALS = dict(output='normals', **OPTIONS)


def tokens(grid):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 2 + grid[0] * grid[1], WIDTH, generator=generator) for _ in range(4)]


def taps_of(grid):
    """CLS, one register, patches."""
    return [(x[:, 2:].transpose(1, 2).unflatten(2, grid), x[:, 0]) for x in tokens(grid)]


def enlarged(x, grid):
    return interpolate(x, size=[14 * side for side in grid], mode='bilinear', align_corners=False)


@torch.no_grad()
def theirs(model, part, grid=GRIDS[0]):
    prefix = '' if hasattr(model, 'neck') else f'{part}_'
    fused = getattr(model, f'{prefix}neck')(tokens(grid), *grid)[-1]
    x = getattr(model, f'{prefix}decoder')(fused)
    if part == 'normals':
        return normalize(enlarged(normalize(x, dim=1), grid), dim=1)
    bins = model.bin_regressor if not prefix else model.depth_bin_regressor
    return enlarged(bins(x)[:, None], grid)


@torch.no_grad()
def ours(head, grid=GRIDS[0]):
    return head.eval()(taps_of(grid))


@pytest.mark.parametrize(
    ('kind', 'part', 'options'),
    [
        (Tipsv2DptForDensePrediction, 'depth', DEPTH),
        (Tipsv2DptForDensePrediction, 'normals', NORMALS),
        (Tipsv2DptForDepthEstimation, 'depth', DEPTH),
        (Tipsv2DptForNormalEstimation, 'normals', NORMALS),
    ],
)
def test_theirs_in_ours_and_back(tmp_path, kind, part, options):
    model = tips(kind)
    head = load_tips_dpt(TIPSHead(WIDTH, **options), model.state_dict(), model.config)
    for grid in GRIDS:
        expected = theirs(model, part, grid)
        assert expected.std() > 0
        torch.testing.assert_close(ours(head, grid), expected, atol=1e-5, rtol=1e-5)

    file = load_file(save(model, None, tmp_path) / 'model.safetensors')
    from_file = load_tips_dpt(TIPSHead(WIDTH, **options), file)
    assert torch.equal(ours(from_file), ours(head))

    alone = kind is not Tipsv2DptForDensePrediction
    back = to_tips_dpt(head, alone=alone)
    own = model.state_dict()
    prefix = '' if alone else f'{part}_'
    assert set(back) == {n for n in own if n.startswith((f'{prefix}neck.', f'{prefix}decoder.'))}
    assert all(torch.equal(back[name], own[name]) for name in back)


@pytest.mark.parametrize(
    ('kind', 'part', 'options'),
    [
        (Tipsv2DptForDensePrediction, 'normals', NORMALS),
        (Tipsv2DptForDepthEstimation, 'depth', DEPTH),
    ],
)
def test_ours_in_theirs(kind, part, options):
    """A head that was trained here gives there what it gives here, and nothing else changes."""
    head, model = TIPSHead(WIDTH, **options), tips(kind)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        (head.train()(taps_of(GRIDS[0])) - torch.tensor(2.0)).square().mean().backward()
        optimizer.step()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert fill_tips_dpt(model, head) is model
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == set(to_tips_dpt(head, alone=hasattr(model, 'neck')))
    for grid in GRIDS:
        found = ours(head, grid)
        torch.testing.assert_close(found, theirs(model, part, grid), atol=1e-5, rtol=1e-5)


def test_another_range_of_bins_is_refused_both_ways():
    """No tensor would tell: depths would come out wrong."""
    model = tips()
    far = TIPSHead(WIDTH, **DEPTH | dict(max_depth=16.0))
    for exchange in (
        lambda: load_tips_dpt(far, model.state_dict(), model.config),
        lambda: fill_tips_dpt(model, far),
    ):
        with pytest.raises(
            ValueError, match='model of max_depth 16.0 as the head has it, found 10'
        ):
            exchange()
    model.config.readout_activation = 'gelu'
    with pytest.raises(ValueError, match='readout_activation gelu_pytorch_tanh .* found gelu'):
        fill_tips_dpt(model, TIPSHead(WIDTH, **NORMALS))
    other = TIPSHead(WIDTH, **NORMALS | dict(channels=8))
    with pytest.raises(
        ValueError, match='TIPSHead for Tipsv2DptForDensePrediction: expected shape'
    ):
        fill_tips_dpt(tips(), other)


def test_bins_are_weighted_as_there():
    """A ReLU plus the nearest depth, not plus 0.1 as in `DPTHead`."""
    head = TIPSHead(WIDTH, **DEPTH)
    config = tips_config()
    assert (head.min_depth, head.max_depth) == (config.min_depth, config.max_depth)
    with torch.no_grad():
        depth = head.activate(torch.zeros(1, 32, 1, 1).index_fill(1, torch.tensor([31]), 5.0))
    expected = (5 * 10 + 1e-3 * head.bin_centres.sum()) / (5 + 32e-3)
    torch.testing.assert_close(depth.squeeze(), expected)


def test_what_does_not_fit_is_one_sentence():
    state = tips().state_dict()
    with pytest.raises(ValueError, match=r'expected the decoder of depth .* found 1 tensors'):
        from_tips_dpt({'backbone.x': torch.zeros(1)}, 'depth')
    with pytest.raises(
        ValueError, match=r'the decoder: .* 1 \(first head.bias\) missing and 0 unk'
    ):
        part = {n: v for n, v in state.items() if n != 'depth_decoder.head.bias'}
        load_tips_dpt(TIPSHead(WIDTH, **DEPTH), part)
    with pytest.raises(
        ValueError, match=r'expected shape \(9, 16\) for head.weight, found \(32, 16\)'
    ):
        load_tips_dpt(TIPSHead(WIDTH, **DEPTH | dict(num_bins=9)), state)
    with pytest.raises(ValueError, match='found metric and project'):
        to_tips_dpt(TIPSHead(WIDTH, **DEPTH | dict(output='metric')))
