"""How a transformers vision model wants to be run, and what of it is needed.

That tokens are those of transformers, at any layer and size, is in ``tests/vlm/test_vision.py``.
"""

from __future__ import annotations

import pytest
import torch
from tiny_vlm import vision_model
from transformers import CLIPVisionModel

from mmseg_siglip.models.backbones import transformers_trunk
from mmseg_siglip.models.backbones.base import VisionTrunk
from mmseg_siglip.models.backbones.block import attend, attend_plainly
from mmseg_siglip.models.backbones.transformers_trunk import TransformersTrunk


def counted(monkeypatch, where, name, function):
    calls = []
    count = staticmethod(lambda *args: (calls.append(1), function(*args))[1])
    monkeypatch.setattr(where, name, count)
    return calls


@pytest.mark.parametrize('trains', [False, True])
def test_attention_is_ours(monkeypatch, trains):
    """The kernel that is fast for the device and format, whether the model trains or not."""
    model, images = vision_model(8, 32).requires_grad_(trains), torch.randn(2, 3, 40, 24)
    calls = counted(monkeypatch, VisionTrunk, 'attend', attend)
    (tokens,) = TransformersTrunk(model).forward_intermediates(images, (-1,), prefix=True)[1]
    assert len(calls) == 3 and tokens.requires_grad == trains
    theirs = model(images, output_hidden_states=True, interpolate_pos_encoding=True)
    torch.testing.assert_close(tokens, theirs.hidden_states[-1], rtol=1e-5, atol=1e-5)


def test_a_model_set_to_eager_attends_plainly(monkeypatch):
    model, images = vision_model(8, 32), torch.randn(1, 3, 32, 32)
    fused = TransformersTrunk(model).forward_intermediates(images)[0].x
    calls = counted(monkeypatch, transformers_trunk, 'attend_plainly', attend_plainly)
    model.set_attn_implementation('eager')
    plain = TransformersTrunk(model).forward_intermediates(images)[0].x
    assert len(calls) == 3
    torch.testing.assert_close(plain, fused, rtol=1e-5, atol=1e-5)


def test_gradient_checkpointing_recomputes_the_blocks():
    model, images = vision_model(8, 32).train(), torch.randn(1, 3, 32, 32)
    ran, gradients = [], []
    model.encoder.layers[0].layer_norm2.register_forward_hook(lambda *_: ran.append(1))
    for runs in (1, 2):
        ran.clear()
        model.zero_grad()
        _, (tap,) = TransformersTrunk(model).forward_intermediates(images, (2,), stop_early=True)
        tap.square().sum().backward()
        assert len(ran) == runs
        gradients.append(
            {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        )
        model.gradient_checkpointing_enable()
    torch.testing.assert_close(*gradients)
    ran.clear()
    TransformersTrunk(model.eval()).forward_intermediates(images)[0].x.sum().backward()
    assert len(ran) == 1


@pytest.mark.parametrize('folder', ['siglip_folder', 'clip_folder', 'naflex_folder'])
def test_what_lies_above_gets_no_gradient_and_all_else_does(request, folder):
    from mmseg_siglip.vlm.checkpoints import load_vision_model, read_vision_config

    source = request.getfixturevalue(folder)
    model = load_vision_model(source, read_vision_config(source))
    trunk = TransformersTrunk(model)
    assert trunk.num_prefix == isinstance(model, CLIPVisionModel)
    assert (trunk.native_grid, trunk.num_layers, trunk.dtype) == ((4, 4), 3, torch.float32)
    _, (tap,) = trunk.forward_intermediates(torch.randn(1, 3, 32, 32), (1,), stop_early=True)
    tap.square().sum().backward()
    above = {id(p) for part in trunk.above(2) for p in part.parameters()}
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (id(parameter) in above), name
