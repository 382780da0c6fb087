"""Whole original checkpoints: the same logits as the same tensors in transformers' own layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from original_llava import BLOCKS, WORDS, original_config, original_names, stock, write_original
from PIL import Image
from tiny_vlm import NARROW

from mmseg_siglip.vlm import VisionChat, load_pretrained_model
from mmseg_siglip.vlm.original_config import read_original
from mmseg_siglip.vlm.processing import prompt_of

SIGLIP = NARROW | dict(model_type='siglip_vision_model', patch_size=8, image_size=32)
CLIP = NARROW | dict(model_type='clip_vision_model', patch_size=8, image_size=32)
PINPOINTS = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
PICTURE = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8), 'RGB'
)


def inputs_of(vlm, picture=PICTURE):
    return vlm.processor(
        images=picture, text=prompt_of(vlm.processor, 'how many stars?'), return_tensors='pt'
    )


def same_logits(vlm, oracle):
    inputs = inputs_of(vlm)
    with torch.no_grad():
        expected = oracle(**inputs).logits
        found = vlm.model(**inputs).logits
    torch.testing.assert_close(found[..., :WORDS], expected[..., :WORDS], rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.1
    return found


def saved_for_stock(vlm, oracle, tmp_path):
    """Stock transformers of what is saved has the logits, too."""
    found = same_logits(vlm, oracle)
    vlm.save_pretrained(tmp_path / 'out')
    again = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path / 'out').eval()
    assert type(again) is type(oracle)
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / 'out')
    text = prompt_of(vlm.processor, 'how many stars?')
    theirs = processor(images=PICTURE, text=text, return_tensors='pt')
    with torch.no_grad():
        logits = again(**theirs).logits
    torch.testing.assert_close(logits, found, rtol=1e-5, atol=1e-5)
    return theirs


@pytest.mark.parametrize(
    ('vision', 'form', 'aspect'), [('clip', 'shards', 'pad'), ('siglip', 'safetensors', 'square')]
)
def test_llava_1_5(clip_folder, siglip_folder, tmp_path, vision, form, aspect):
    """A tuned tower inside the file is used, not the one that it is named after."""
    config, tower = (CLIP, clip_folder) if vision == 'clip' else (SIGLIP, siglip_folder)
    strategy = 'default' if vision == 'clip' else 'full'
    oracle = stock('llava', 'llama', config, vision_feature_select_strategy=strategy)
    words = dict(architectures=['LlavaLlamaForCausalLM'], model_type='llava')
    fields = original_config(oracle, tower, **words, image_aspect_ratio=aspect)
    state = original_names(oracle, tower=True)
    state['model.layers.0.self_attn.rotary_emb.inv_freq'] = torch.ones(4)
    folder = write_original(tmp_path / 'in', state, fields, form=form)
    vlm = load_pretrained_model(folder)
    inputs = saved_for_stock(vlm, oracle, tmp_path)
    assert (inputs['input_ids'] == WORDS).sum() == 16
    assert vlm.tokenizer.convert_tokens_to_ids('<image>') == WORDS
    mean = oracle.lm_head.weight[:WORDS].mean(0)
    torch.testing.assert_close(vlm.model.lm_head.weight[WORDS], mean)


def test_padded_to_a_square_with_the_mean_colour(clip_folder, tmp_path):
    oracle = stock('llava', 'llama', CLIP)
    fields = original_config(oracle, clip_folder, model_type='llava_llama')
    fields['image_aspect_ratio'] = 'pad'
    state = original_names(oracle, tower=True)
    vlm = load_pretrained_model(write_original(tmp_path / 'in', state, fields, form='bin'))
    mean = tuple(int(255 * x) for x in vlm.image_processor.image_mean)
    square = Image.new('RGB', (70, 70), mean)
    square.paste(PICTURE, (0, 15))
    plain = transformers.CLIPImageProcessor.from_pretrained(clip_folder)
    found = vlm.image_processor(PICTURE, return_tensors='pt').pixel_values
    torch.testing.assert_close(found, plain(square, return_tensors='pt').pixel_values)
    answer = VisionChat(vlm)(PICTURE, 'how many stars?', max_new_tokens=3)
    assert isinstance(answer, str)


def test_a_tower_that_is_not_in_the_file_is_the_one_named(siglip_folder, tmp_path):
    oracle = stock('llava', 'llama', SIGLIP, vision_feature_select_strategy='full')
    named = transformers.SiglipVisionModel.from_pretrained(siglip_folder)
    oracle.model.vision_tower.load_state_dict(named.state_dict())
    fields = original_config(oracle, '/elsewhere/siglip', model_type='llava_llama')
    state = original_names(oracle, tower=False)
    folder = write_original(tmp_path / 'in', state, fields, form='bin')
    with pytest.raises(ValueError, match='/elsewhere/siglip: no such file or folder'):
        load_pretrained_model(folder)
    words = dict(model_name_or_path=str(folder), mm_vision_tower=siglip_folder)
    same_logits(load_pretrained_model(words), oracle)


@pytest.mark.parametrize('aspect', ['anyres', 'anyres_max_2'])
def test_llava_next_with_siglip(siglip_folder, tmp_path, aspect):
    """Without SigLIP's last block and head, as LLaVA-NeXT saves it; in tiles."""
    vision = SIGLIP | dict(num_hidden_layers=BLOCKS - 1, vision_use_head=False)
    common = dict(
        vision_feature_layer=-1, vision_feature_select_strategy='full', tie_word_embeddings=True
    )
    common |= dict(image_grid_pinpoints=[[height, width] for width, height in PINPOINTS])
    if aspect == 'anyres':
        oracle = stock('llava_next', 'qwen2', vision, **common)
    else:
        more = dict(vision_aspect_ratio=aspect, video_token_index=WORDS + 1)
        oracle = stock('llava_onevision', 'qwen2', vision, **common, **more)
    state = original_names(oracle, tower=True)
    del state['lm_head.weight']
    fields = original_config(
        oracle,
        siglip_folder,
        architectures=['LlavaQwenForCausalLM'],
        model_type='llava_qwen',
        image_aspect_ratio=aspect,
        image_grid_pinpoints=PINPOINTS,
        mm_patch_merge_type='spatial_unpad',
        tie_word_embeddings=True,
    )
    oracle.lm_head.weight = oracle.model.language_model.embed_tokens.weight
    vlm = load_pretrained_model(write_original(tmp_path / 'in', state, fields, form='safetensors'))
    inputs = saved_for_stock(vlm, oracle, tmp_path)
    assert inputs['pixel_values'].shape[:2] == (1, 5)  # the whole and 64x64 pixels in four tiles
    again = load_pretrained_model(tmp_path / 'out')
    assert isinstance(again.model, type(oracle))
    answer = VisionChat(again)([PICTURE, PICTURE.resize((30, 60))], 'what?', max_new_tokens=3)
    assert len(answer) == 2


def test_llava_1_6_with_clip(clip_folder, tmp_path):
    """In tiles without CLS, the tower not in the file."""
    oracle = stock('llava_next', 'mistral', CLIP, image_grid_pinpoints=PINPOINTS)
    named = transformers.CLIPVisionModel.from_pretrained(clip_folder)
    oracle.model.vision_tower.load_state_dict(named.state_dict())
    words = dict(architectures=['LlavaMistralForCausalLM'], model_type='llava_mistral')
    words |= dict(image_aspect_ratio='anyres', mm_patch_merge_type='spatial_unpad')
    fields = original_config(oracle, clip_folder, **words, image_grid_pinpoints=PINPOINTS)
    state = original_names(oracle, tower=False)
    folder = write_original(tmp_path / 'in', state, fields, form='safetensors')
    same_logits(load_pretrained_model(folder), oracle)


def test_dense_moe_llava(clip_folder, tmp_path):
    oracle = stock('llava', 'llama', CLIP)
    fields = original_config(oracle, '', model_type='llava_llama')
    fields |= dict(mm_image_tower=clip_folder, image_projector_type='mlp2x_gelu')
    fields |= dict(mm_vision_tower=None, mm_projector_type=None, mm_video_tower=None)
    state = original_names(oracle, tower=True, moe=True)
    folder = write_original(tmp_path / 'in', state, fields, form='bin')
    same_logits(load_pretrained_model(folder), oracle)


@pytest.fixture(scope='module')
def plain(siglip_folder, tmp_path_factory):
    """A folder, its tensors and its configuration, to spoil."""
    oracle = stock('llava', 'llama', SIGLIP, vision_feature_select_strategy='full')
    fields = original_config(oracle, siglip_folder, model_type='llava_llama')
    state = original_names(oracle, tower=True)
    return state, fields


def refused(plain, folder: Path, match: str, *, state=None, **words):
    tensors = plain[0] if state is None else state
    write_original(folder, tensors, plain[1] | words, form='bin')
    with pytest.raises(ValueError, match=match) as caught:
        load_pretrained_model(folder)
    assert '\n' not in str(caught.value) and str(caught.value).count(str(folder)) >= 1


@pytest.mark.parametrize(
    ('words', 'match'),
    [
        (dict(architectures=['LlavaPhiForCausalLM']), 'LlavaStablelmForCausalLM, found LlavaPhi'),
        (dict(model_type='moe_llava_qwen'), 'mixture of experts .* not loaded: .* leaves tokens'),
        (
            dict(architectures=['MoELLaVAStablelmForCausalLM'], model_type='moe_llava_stablelm'),
            'mixture of experts .* not loaded',
        ),
        (dict(moe=dict(moe_enable=True)), 'mixture of experts as DeepSpeed trains it'),
        (dict(mm_vision_tower=None), 'mm_vision_tower: expected text, found'),
        (dict(mm_vision_tower=7), 'mm_vision_tower: expected text, found'),
        (dict(mm_vision_select_layer='-2'), 'mm_vision_select_layer: expected a whole number'),
        (dict(mm_hidden_size=1024), 'mm_hidden_size: expected 32, .* found 1024'),
        (dict(mm_projector_type='pooler'), "'linear' or 'identity', found 'pooler'"),
        (dict(mm_use_im_start_end=True), 'mm_use_im_start_end: expected none, or false: its prom'),
        (dict(s2=True), 's2: expected none, or false: it sees each image at several scales'),
        (dict(image_aspect_ratio='highres'), "square, pad, anyres or anyres_max_N, found 'highr"),
        (dict(image_aspect_ratio='anyres'), 'mm_patch_merge_type: expected spatial_unpad'),
        (dict(num_hidden_layers=10**6), 'expected num_hidden_layers of at most 1000'),
        (dict(hidden_size=64), 'expected shape'),
        (dict(num_hidden_layers=3), 'expected all weights of a llava model, .* missing'),
        (dict(num_hidden_layers=1), 'expected all weights of a llava model, .* unknown'),
        (dict(mm_projector_type='mlp3x_gelu'), 'multi_modal_projector.linear_3'),
    ],
)
def test_words_that_are_not_so(plain, tmp_path, words, match):
    refused(plain, tmp_path / 'in', match, **words)


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        ({'model.video_tower.x': torch.ones(2)}, 'as LLaVA names them, found model.video_tower.x'),
        ({'lm_head.bias': torch.ones(WORDS)}, 'as LLaVA names them, found lm_head.bias'),
        (
            {'model.layers.0.mlp.deepspeed_moe.gate.wg.weight': torch.ones(2)},
            r'mixture of experts.*\(found model\.layers\.0\.mlp\.deepspeed_moe',
        ),
        ({'model.norm.weight': torch.full((32,), torch.nan)}, 'finite weights, found 32 of 32'),
        ({'model.image_newline': torch.ones(32)}, '1 are unknown, first model.image_newline'),
    ],
)
def test_weights_that_are_not_so(plain, tmp_path, change, match):
    refused(plain, tmp_path / 'in', match, state=plain[0] | change)


def test_missing_shard_and_code(plain, tmp_path):
    state, fields = plain
    folder = write_original(tmp_path / 'in', state, fields, form='shards')
    (folder / 'pytorch_model-00002-of-00002.bin').unlink()
    with pytest.raises(ValueError, match='index.json: expected its tensors .* are in none of them'):
        load_pretrained_model(folder)
    refused(plain, tmp_path / 'code', 'would run code', state={'model.norm.weight': print})
    (tmp_path / 'code' / 'adapter_config.json').write_text('{}')
    with pytest.raises(ValueError, match='expected whole weights, found adapters'):
        load_pretrained_model(tmp_path / 'code')


def test_moe_llava_without_siglips_first_patch(plain, siglip_folder, tmp_path):
    words = dict(mm_image_tower=siglip_folder, mm_vision_tower=None)
    refused(plain, tmp_path / 'in', "leaves out SigLIP's first patch, .*='full'", **words)
    words = dict(model_name_or_path=str(tmp_path / 'in'), mm_vision_select_feature='full')
    assert load_pretrained_model(words).model.config.image_seq_length == 16


def test_a_naflex_tower_is_refused(plain, naflex_folder, tmp_path):
    match = 'expected a tower of one resolution, .* a NaFlex one'
    refused(plain, tmp_path / 'in', match, mm_vision_tower=naflex_folder)


def test_other_size_and_layer(plain, tmp_path):
    folder = write_original(tmp_path / 'in', *plain, form='bin')
    vlm = load_pretrained_model(
        folder, custom_vision_config=dict(image_size=48, vision_feature_layer=-1)
    )
    assert vlm.model.config.image_seq_length == 36
    assert vlm.model.config.vision_feature_layer == -1
    assert inputs_of(vlm)['pixel_values'].shape == (1, 3, 48, 48)


@pytest.mark.parametrize(
    ('pinpoints', 'expected'),
    [
        ('(9x9)', [[9, 9]]),
        ('(1x1),...,(2x3)', [[1, 1], [2, 1], [3, 1], [1, 2], [2, 2], [3, 2]]),
        ([[2, 1], [1, 3]], [[1, 2], [3, 1]]),
    ],
)
def test_pinpoints_are_width_and_height(plain, siglip_folder, tmp_path, pinpoints, expected):
    if isinstance(pinpoints, list):
        pinpoints = [[32 * x for x in pair] for pair in pinpoints]
    fields = plain[1] | dict(image_grid_pinpoints=pinpoints)
    (tmp_path / 'config.json').write_text(json.dumps(fields))
    found = read_original(str(tmp_path), {}).resolutions(32)
    assert found == [[32 * y, 32 * x] for y, x in expected]
    for wrong in ('(1x1),...,(999x999)', [[33, 32]], [[32]], [], None, [[32, 32 * 10**9]]):
        (tmp_path / 'config.json').write_text(json.dumps(fields | dict(image_grid_pinpoints=wrong)))
        original = read_original(str(tmp_path), {})
        with pytest.raises(ValueError, match='image_grid_pinpoints: expected pairs of mult'):
            original.resolutions(32)
