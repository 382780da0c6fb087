"""Releases' names lead to one model and one decoder, whichever way they are read."""

from __future__ import annotations

import pytest
import torch
from tiny_depth_models import (
    beit,
    depth_anything,
    depth_anything_release,
    dpt,
    dpt_beit_release,
    dpt_release,
)

from mmseg_siglip.models.adapters.depth_anything import from_depth_anything
from mmseg_siglip.models.adapters.depth_release import to_depth_anything, to_dpt

KINDS = dict(
    depth_anything=(depth_anything, depth_anything_release),
    dpt=(dpt, dpt_release),
    beit=(lambda: dpt(backbone_config=beit()), dpt_beit_release),
)


@pytest.mark.parametrize('kind', KINDS)
def test_the_decoder_goes_into_ours(kind):
    build, release = KINDS[kind]
    model = build()
    expected, found = (from_depth_anything(x) for x in (model.state_dict(), release(model)))
    assert set(found) == set(expected) and 'conv3.bias' in found
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize(
    ('kind', 'convert'), [('depth_anything', to_depth_anything), ('dpt', to_dpt)]
)
def test_nothing_is_lost(kind, convert):
    build, release = KINDS[kind]
    model = build()
    expected, found = model.state_dict(), convert(release(model))
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_what_has_no_name_keeps_its_own():
    state = depth_anything_release(depth_anything()) | {'depth_head.new.bias': torch.ones(1)}
    assert 'depth_head.new.bias' in to_depth_anything(state)
