"""Taps against transformers' hidden states, for any grid and either readout."""

from __future__ import annotations

import pytest
import torch

from mmseg_siglip.models.backbones import SigLIPBackbone
from mmseg_siglip.models.segmentors.depth_taps import DepthTaps, check_taps, default_taps


@pytest.fixture(scope='module')
def backbone(siglip_folder):
    return SigLIPBackbone(siglip_folder)


def test_defaults_are_the_published_ones():
    assert default_taps(12) == (2, 5, 8, 11)
    assert default_taps(24) == (5, 11, 17, 23)
    assert default_taps(27) == (6, 13, 20, 26)
    assert default_taps(40) == (9, 19, 29, 39)
    assert default_taps(6) == (1, 2, 4, 5)


def test_negative_taps_where_the_model_has_them():
    assert check_taps((-18, -12, -6, -2), 24) == (6, 12, 18, 22)
    assert check_taps((-18, -12, -6, -2), 27) == (9, 15, 21, 25)
    with pytest.raises(ValueError, match='from -12 to 11, found -18; the encoder has 12 blocks'):
        check_taps((-18, -12, -6, -2), 12)
    with pytest.raises(ValueError, match='from -12 to 11, found 12'):
        check_taps((2, 5, 8, 12), 12)
    with pytest.raises(ValueError, match='expected 4 blocks, found 3'):
        check_taps((-6, -4, -2), 12)
    with pytest.raises(ValueError, match=r'the earliest block first, found \(-2, -6, -8, -9\)'):
        check_taps((-2, -6, -8, -9), 12)


@pytest.mark.parametrize('norm', ['none', 'post_ln'])
@pytest.mark.parametrize('size', [(32, 32), (40, 56)])
def test_taps_are_transformers_hidden_states(backbone, norm, size):
    images, vision = torch.randn(2, 3, *size), backbone.model.vision_model
    module = DepthTaps(backbone, tap_layers=(0, 1, 1, -1), tap_norm=norm, with_readout=True)
    with torch.no_grad():
        out = vision(images, interpolate_pos_encoding=True, output_hidden_states=True)
        taps = module(backbone, images, frozen=False)
    for (tap, pooled), index in zip(taps, (1, 2, 2, 3), strict=True):
        expected = out.hidden_states[index]
        if norm == 'post_ln':
            expected = vision.post_layernorm(expected)
        got = tap.flatten(2).transpose(1, 2)
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(pooled, out.pooler_output, atol=1e-4, rtol=1e-4)
    assert tap.shape == (2, 32, size[0] // 8, size[1] // 8)


def test_a_norm_for_each_tap_trains_over_a_frozen_encoder(backbone):
    module = DepthTaps(backbone, tap_norm='per_tap')
    taps = module(backbone, torch.randn(1, 3, 32, 32), frozen=True)
    sum(tap.sum() * 1.0 + (tap**2 * tap.detach()).sum() for tap in taps).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert len(module.norms) == 4
    assert all(parameter.grad is None for parameter in backbone.parameters())
    assert taps[0].mean(1).abs().max() < 1e-4


def test_no_patch_is_taken_for_a_cls_token(backbone):
    """What is changed in one patch's pixels changes the same place of the first tap most."""
    images = torch.randn(1, 3, 32, 32)
    changed = images.clone()
    changed[..., :8, :8] += 3
    module = DepthTaps(backbone, tap_norm='none')
    with torch.no_grad():
        first, second = (module(backbone, x, frozen=True)[0] for x in (images, changed))
    difference = (first - second).abs().sum(1)[0]
    assert difference.shape == (4, 4) and difference.argmax() == 0


def test_bad_norm(backbone):
    with pytest.raises(ValueError, match="expected one of none, post_ln, per_tap, found 'batch'"):
        DepthTaps(backbone, tap_norm='batch')
