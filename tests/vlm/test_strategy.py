"""Which tokens reach the language model."""

from __future__ import annotations

import warnings

import pytest
import torch
from tiny_vlm import NARROW
from transformers import CLIPVisionConfig, SiglipVisionConfig

from mmseg_siglip.vlm.strategy import (
    check_strategy,
    default_strategy,
    extra_tokens,
    in_transformers,
    select,
)

SIGLIP, CLIP = SiglipVisionConfig(**NARROW), CLIPVisionConfig(**NARROW)
TOKENS = torch.arange(10.0).view(1, 5, 2)


def test_siglip_keeps_every_token():
    assert default_strategy(SIGLIP) == 'full'
    assert torch.equal(select(TOKENS, 'full', SIGLIP), TOKENS)
    assert extra_tokens('full', SIGLIP) == 0


def test_default_would_take_a_patch_of_siglip_for_cls():
    with pytest.raises(ValueError, match="expected 'full' for SigLIP, found 'default'"):
        check_strategy('default', SIGLIP)


def test_words_of_llava_leave_siglip_whole():
    """As in LLaVA-NeXT's SigLIP tower, whose published configurations say ``patch``."""
    with pytest.warns(UserWarning, match="'patch' of a SigLIP.* is taken for all tokens"):
        assert check_strategy('patch', SIGLIP) == 'full'
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert check_strategy('cls_patch', SIGLIP) == 'full'
        assert check_strategy('patch', CLIP) == 'patch'


@pytest.mark.parametrize(
    ('strategy', 'first', 'extra', 'theirs'),
    [
        ('patch', 1, 0, 'default'),
        ('default', 1, 0, 'default'),
        ('cls_patch', 0, 1, 'full'),
        ('full', 0, 1, 'full'),
    ],
)
def test_clip(strategy, first, extra, theirs):
    assert check_strategy(strategy, CLIP) == strategy
    assert torch.equal(select(TOKENS, strategy, CLIP), TOKENS[:, first:])
    assert extra_tokens(strategy, CLIP) == extra
    assert in_transformers(strategy) == theirs


@pytest.mark.parametrize('config', [SIGLIP, CLIP])
def test_unknown(config):
    with pytest.raises(ValueError, match="expected one of .*found 'all'"):
        check_strategy('all', config)
