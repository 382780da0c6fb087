"""Configurations and weights: what is read, what is refused, what is left out."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_vlm import LLAMA
from transformers import SiglipVisionModel
from transformers.utils import logging

from mmseg_siglip.vlm.checkpoints import (
    RELEASED,
    load_language_model,
    load_vision_model,
    quiet,
    read_transformers_config,
    read_vision_config,
)
from mmseg_siglip.weights.tokenizers import load_tokenizer


def test_the_vision_part_of_a_whole_model(siglip_folder, clip_folder):
    assert read_vision_config(siglip_folder).model_type == 'siglip_vision_model'
    assert read_vision_config(clip_folder).model_type == 'clip_vision_model'


def test_blocks_above_are_not_read_and_those_below_are_the_same(siglip_folder):
    config = read_vision_config(siglip_folder)
    whole = SiglipVisionModel.from_pretrained(siglip_folder, config=config).eval()
    part = load_vision_model(siglip_folder, config, num_blocks=2)
    assert len(part.encoder.layers) == 2 and isinstance(part.post_layernorm, torch.nn.Identity)
    assert not any('head' in name for name in part.state_dict())
    assert config.num_hidden_layers == 3  # the caller's own stays as it was
    theirs = whole.state_dict()
    for name, value in part.state_dict().items():
        found = next(key for key in theirs if key.removeprefix('vision_model.') == name)
        assert torch.equal(value, theirs[found])


def test_missing_weights_are_named(siglip_folder, tmp_path):
    config = read_vision_config(siglip_folder)
    weights = load_file(f'{siglip_folder}/model.safetensors')
    lost = next(name for name in weights if 'vision' in name and 'layers.0.mlp.fc1.weight' in name)
    del weights[lost]
    save_file(weights, tmp_path / 'model.safetensors', metadata=dict(format='pt'))
    (tmp_path / 'config.json').write_text(config.to_json_string())
    with pytest.raises(ValueError, match='1 are missing, first .*fc1.weight'):
        load_vision_model(str(tmp_path), config)


def test_code_of_a_checkpoint_never_runs(tmp_path):
    canary = tmp_path / 'ran'
    (tmp_path / 'evil.py').write_text(f'open({str(canary)!r}, "w")\n')
    config = dict(model_type='evil', auto_map=dict(AutoConfig='evil.EvilConfig'))
    (tmp_path / 'config.json').write_text(json.dumps(config))
    with pytest.raises(ValueError, match='no configuration that transformers knows'):
        read_transformers_config(str(tmp_path))
    assert not canary.exists()


def test_what_is_no_encoder_or_no_language_model(siglip_folder, llm_folder, tmp_path):
    with pytest.raises(ValueError, match="expected a vision encoder .*found 'llama'"):
        read_vision_config(llm_folder)
    with pytest.raises(ValueError, match="expected a causal language model, .*'siglip'"):
        load_language_model(siglip_folder)
    with pytest.raises(ValueError, match='expected tokenizer files'):
        load_tokenizer(str(tmp_path))


def test_a_language_model_of_a_mapping_leaves_it_alone():
    fields = dict(LLAMA)
    assert load_language_model(fields).config.hidden_size == 32
    assert fields == LLAMA


def test_quiet_puts_the_volume_back_after_an_error():
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with pytest.raises(RuntimeError), quiet():
        raise RuntimeError
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_released_names_are_distinct():
    assert len(set(RELEASED)) == len(RELEASED)
