"""Shapes on any grid, the three outputs, and a loss that trains every parameter."""

from __future__ import annotations

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_siglip.models.decode_heads.dpt_head import (
    DPTHead,
    default_channels,
    fit_to_image,
    stack_truth,
)
from mmseg_siglip.registry import MODELS

SMALL = dict(channels=8, post_process_channels=[4, 4, 6, 8])
SILOG = dict(type='SILogDepthLoss')


def taps(batch=2, grid=(5, 7), width=12, readout=False):
    maps = [torch.randn(batch, width, *grid) for _ in range(4)]
    return [(x, torch.randn(batch, width)) for x in maps] if readout else maps


def sample(depth, name='a.png'):
    truth = PixelData(data=depth)
    return SegDataSample(metainfo=dict(img_path=name), gt_depth_map=truth)


def test_the_name_is_ours_beside_mmsegs():
    assert MODELS.get('DPTHead') is DPTHead
    assert MODELS.get('mmseg.DPTHead').__module__.startswith('mmseg.')


@pytest.mark.parametrize(
    ('grid', 'fused', 'patch'),
    [((27, 27), 216, 14), ((37, 49), (296, 392), 14), ((1, 1), 8, 16), ((2, 5), (16, 40), 32)],
)
def test_odd_grids_do_not_grow(grid, fused, patch):
    head = DPTHead(12, patch_size=patch, **SMALL)
    x = taps(1, grid)
    with torch.no_grad():
        fused = (fused, fused) if isinstance(fused, int) else fused
        assert head.fuse(x).shape == (1, 8, *fused)
        assert head(x).shape == (1, 1, grid[0] * patch, grid[1] * patch)


@pytest.mark.parametrize('output', ['relative', 'metric', 'bins'])
@pytest.mark.parametrize('readout', ['ignore', 'add', 'project'])
def test_outputs_lie_in_their_range_and_batches_equal_singles(output, readout):
    torch.manual_seed(0)
    options = dict(output=output, readout_type=readout, min_depth=0.5, max_depth=6, num_bins=9)
    head = DPTHead(12, patch_size=8, **options, **SMALL)
    x = taps(3, readout=readout != 'ignore')
    with torch.no_grad():
        depth = head(x)
        single = [
            head(
                [
                    (t[0][i : i + 1], t[1][i : i + 1]) if readout != 'ignore' else t[i : i + 1]
                    for t in x
                ]
            )
            for i in range(3)
        ]
    assert depth.shape == (3, 1, 40, 56) and depth.dtype == torch.float32
    low, high = dict(relative=(0, 1e9), metric=(0, 6), bins=(0.5, 6))[output]
    assert depth.min() >= low and depth.max() <= high + 1e-5 and depth.std() > 0
    torch.testing.assert_close(depth, torch.cat(single), atol=1e-5, rtol=1e-4)
    assert head.predicts == ('inverse' if output == 'relative' else 'depth')


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_bins_are_the_expectation_written_out(dtype):
    """In float32, whatever the features came in."""
    torch.manual_seed(0)
    head = DPTHead(12, patch_size=8, output='bins', min_depth=1, max_depth=5, num_bins=5, **SMALL)
    x = taps(1, (3, 3))
    with torch.no_grad(), torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
        logits = head.conv3(head.conv2(head.conv1(head.fuse(x))).relu())[0].float()
        weight = logits.relu() + 0.1
        probability = weight / weight.sum(0)
        expected = sum(probability[k] * (1.0 + k) for k in range(5))
        assert expected.shape == (24, 24)
        torch.testing.assert_close(head(x)[0, 0], expected)
    assert len(DPTHead(12, patch_size=8, output='bins', **SMALL).bin_centres) == 256


def test_every_parameter_trains():
    head = DPTHead(12, patch_size=8, readout_type='project', loss_decode=SILOG, **SMALL)
    samples = [sample(torch.rand(1, 37, 50) + 1) for _ in range(2)]
    losses = head.loss(taps(readout=True), samples)
    assert list(losses) == ['loss_silog']
    losses['loss_silog'].backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_several_losses():
    head = DPTHead(
        12,
        patch_size=8,
        loss_decode=[SILOG, dict(type='GradientMatchingLoss', predicts='depth', loss_weight=0.5)],
        **SMALL,
    )
    losses = head.loss(taps(), [sample(torch.rand(1, 40, 56) + 1) for _ in range(2)])
    assert list(losses) == ['loss_silog', 'loss_gradient']


def test_expand_channels_gives_whole_numbers():
    head = DPTHead(
        12, patch_size=8, channels=8, post_process_channels=[2] * 4, expand_channels=True
    )
    assert [conv.in_channels for conv in head.convs] == [2, 4, 8, 16]
    assert head(taps()).shape == (2, 1, 40, 56)


def test_presets_are_depth_anythings():
    assert default_channels(384) == (64, (48, 96, 192, 384))
    assert default_channels(768) == (128, (96, 192, 384, 768))
    assert default_channels(1024) == (256, (256, 512, 1024, 1024))
    assert default_channels(1152) == (256, (256, 512, 1024, 1024))
    assert default_channels(1536) == (384, (1536,) * 4)
    assert default_channels(2048) == (384, (1536,) * 4)


def test_fit_to_image_crops_and_repeats():
    depth = torch.arange(12.0).view(1, 1, 3, 4)
    assert torch.equal(fit_to_image(depth, (2, 3)), depth[..., :2, :3])
    wider = fit_to_image(depth, (5, 3))
    assert wider.shape == (1, 1, 5, 3)
    assert torch.equal(wider[0, 0, 2:], depth[0, 0, 2:, :3].expand(3, 3))


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (
            dict(output='log'),
            "DPTHead.output: expected one of relative, metric, bins, normals, found 'log'",
        ),
        (dict(readout_type='cls'), "readout_type: expected one of ignore, add, project, found 'cl"),
        (dict(max_depth=0), 'expected 0 <= min_depth < max_depth, found 0.001 and 0'),
        (dict(post_process_channels=[4, 4]), 'post_process_channels: expected 4, found 2'),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        DPTHead(12, patch_size=8, **options)


def test_bad_truth_gets_one_sentence():
    with pytest.raises(ValueError, match=r'b.png: expected a gt_depth_map of \(4, 4\) .* \(4, 5\)'):
        stack_truth([sample(torch.ones(1, 4, 4)), sample(torch.ones(1, 4, 5), 'b.png')])
    with pytest.raises(ValueError, match='c.png: expected gt_depth_map to train on, found none'):
        stack_truth([SegDataSample(metainfo=dict(img_path='c.png'))])
    with pytest.raises(ValueError, match='expected loss_decode to train with, found none'):
        DPTHead(12, patch_size=8, **SMALL).loss(taps(), [sample(torch.ones(1, 4, 4))])


@pytest.mark.parametrize('output', ['relative', 'metric'])
def test_depth_has_no_steps_of_bfloat16(output):
    """Which has 8 bits: between 8 and 10 metres 64 depths."""
    torch.manual_seed(0)
    head = DPTHead(12, patch_size=16, output=output, **SMALL)
    torch.nn.init.constant_(head.conv3.bias, 2)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        depth = head(taps(1, (8, 8)))
    logits = depth if output == 'relative' else (depth / head.max_depth).logit()
    assert len(logits.bfloat16().unique()) < len(depth.unique()) / 20
    assert len(depth.unique()) > 0.5 * depth.numel()
