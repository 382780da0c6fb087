"""Projectors of every published depth: LLaVA's arithmetic, saved and found again."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn
from transformers import LlavaConfig, SiglipVisionConfig

from mmseg_siglip.vlm import build_llava, load_pretrained_model
from mmseg_siglip.vlm.projectors import ProjectorType, make_projector


def theirs(name, width, out):
    """What LLaVA makes of the word."""
    if name == 'identity':
        return nn.Identity()
    if name == 'linear':
        return nn.Linear(width, out)
    parts = [nn.Linear(width, out)]
    for _ in range(int(name[3]) - 1):
        parts += [nn.GELU(), nn.Linear(out, out)]
    return nn.Sequential(*parts)


@pytest.mark.parametrize('name', ['linear', 'mlp2x_gelu', 'mlp4x_gelu'])
def test_loads_and_is_found_again(siglip_folder, llm_folder, tmp_path, name):
    """The file alone says how many layers there are; both folders are 32 wide."""
    torch.manual_seed(0)
    projector = theirs(name, 32, 32)
    state = {f'model.mm_projector.{n}': value for n, value in projector.state_dict().items()}
    torch.save(state, tmp_path / 'mm_projector.bin')
    both = dict(model_name_or_path=llm_folder, mm_vision_tower=siglip_folder)
    vlm = load_pretrained_model(both | dict(pretrain_mm_mlp_adapter=str(tmp_path)))
    x = torch.randn(2, 5, 32)
    found = vlm.model.model.multi_modal_projector
    torch.testing.assert_close(found(x), projector(x), rtol=1e-6, atol=1e-6)
    vlm.save_pretrained(tmp_path / 'llava')
    again = load_pretrained_model(tmp_path / 'llava').model.model.multi_modal_projector
    assert torch.equal(again(x), found(x))
    words = dict(model_name_or_path=str(tmp_path / 'llava'), mm_projector_type='mlp3x_gelu')
    with pytest.raises(ValueError, match=f"expected 'mlp{found_layers(found)}x_gelu'"):
        load_pretrained_model(words)


def found_layers(projector):
    return sum(isinstance(part, nn.Linear) for part in projector.children())


def test_identity(siglip_folder, llm_folder, tmp_path):
    vlm = build_llava(siglip_folder, llm_folder, projector='identity')
    x = torch.randn(1, 3, 32)
    assert torch.equal(vlm.model.model.multi_modal_projector(x), x)
    vlm.save_pretrained(tmp_path)
    again = load_pretrained_model(tmp_path).model
    assert torch.equal(again.model.multi_modal_projector(x), x)
    # Stock transformers has no such projector, and does not put another in its place.
    with pytest.raises(KeyError, match='identity'):
        transformers.LlavaForConditionalGeneration.from_pretrained(tmp_path)


def test_identity_of_other_widths():
    vision = SiglipVisionConfig(hidden_size=6, num_attention_heads=2)
    text = dict(model_type='llama', hidden_size=4, num_attention_heads=2, pad_token_id=None)
    config = LlavaConfig(vision_config=vision, text_config=text, projector_hidden_act='identity')
    with pytest.raises(ValueError, match="from 6 channels of the encoder to 4 of .* 'identity'"):
        make_projector(config)


@pytest.mark.parametrize('name', ['mlp0x_gelu', 'mlp2x_', 'mlp99x_gelu', 'pooler', 7])
def test_what_is_no_projector(name):
    with pytest.raises(ValueError, match="'linear' or 'identity', found"):
        ProjectorType.parse(name)
