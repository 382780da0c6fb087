"""Decoders of transformers' TIPS v2 DPT in `TIPSHead` and back: the same taps, the same numbers."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from tiny_depth_models import CHANNELS, STAGES, WIDTH, save, seeded, tips, tips_config
from torch.nn.functional import interpolate, normalize
from transformers import (
    Tipsv2DptForDensePrediction,
    Tipsv2DptForDepthEstimation,
    Tipsv2DptForNormalEstimation,
)

from mmseg_siglip.models.adapters.tips_dpt import from_tips_dpt, load_tips_dpt, to_tips_dpt
from mmseg_siglip.models.decode_heads import TIPSHead

GRID = (4, 6)
OPTIONS = dict(
    patch_size=14, channels=CHANNELS, post_process_channels=STAGES, readout_type='project'
)
DEPTH = dict(output='bins', num_bins=32, **OPTIONS)
NORMALS = dict(output='normals', **OPTIONS)


def tokens():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 2 + GRID[0] * GRID[1], WIDTH, generator=generator) for _ in range(4)]


def taps_of(tokens):
    """CLS, one register, patches."""
    return [(x[:, 2:].transpose(1, 2).unflatten(2, GRID), x[:, 0]) for x in tokens]


def enlarged(x):
    return interpolate(x, size=[14 * side for side in GRID], mode='bilinear', align_corners=False)


@torch.no_grad()
def theirs(model, part):
    prefix = '' if hasattr(model, 'neck') else f'{part}_'
    x = getattr(model, f'{prefix}decoder')(getattr(model, f'{prefix}neck')(tokens(), *GRID)[-1])
    if part == 'normals':
        return normalize(enlarged(normalize(x, dim=1)), dim=1)
    bins = model.bin_regressor if not prefix else model.depth_bin_regressor
    return enlarged(bins(x)[:, None])


@torch.no_grad()
def ours(head):
    return head.eval()(taps_of(tokens()))


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
    head = load_tips_dpt(TIPSHead(WIDTH, **options), model.state_dict())
    expected = theirs(model, part)
    assert expected.std() > 0
    torch.testing.assert_close(ours(head), expected, atol=1e-5, rtol=1e-5)

    file = load_file(save(model, None, tmp_path) / 'model.safetensors')
    from_file = load_tips_dpt(TIPSHead(WIDTH, **options), file)
    assert torch.equal(ours(from_file), ours(head))

    alone = kind is not Tipsv2DptForDensePrediction
    back = to_tips_dpt(head, alone=alone)
    own = model.state_dict()
    prefix = '' if alone else f'{part}_'
    assert set(back) == {n for n in own if n.startswith((f'{prefix}neck.', f'{prefix}decoder.'))}
    assert all(torch.equal(back[name], own[name]) for name in back)


def test_ours_in_theirs():
    """A head that was trained here gives there what it gives here."""
    head = seeded(TIPSHead(WIDTH, **DEPTH))
    model = tips(Tipsv2DptForDepthEstimation)
    before = theirs(model, 'depth')
    missing, unknown = model.load_state_dict(to_tips_dpt(head, alone=True), strict=False)
    assert not unknown and all(name.startswith('backbone.') for name in missing)
    assert not torch.equal(theirs(model, 'depth'), before)
    torch.testing.assert_close(ours(head), theirs(model, 'depth'), atol=1e-5, rtol=1e-5)


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
