"""NaFlex under LLaVA: images of different aspects in one batch, each with its own tokens."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_vlm import spread

from mmseg_siglip.patch_stats import patch_statistics
from mmseg_siglip.vlm import LlavaTrainer, VisionChat, build_llava, load_pretrained_model
from mmseg_siglip.vlm.fusion import depth_statistics
from mmseg_siglip.vlm.processing import prompt_of

RANDOM = np.random.default_rng(0)
PICTURES = [
    Image.fromarray(RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8), 'RGB')
    for size in ((40, 70), (20, 95), (50, 50))
]
DEPTH = dict(names=('mean', 'min'), mean=(3.0, 2.0), std=(1.0, 0.5), width=3)


@pytest.fixture(scope='module')
def vlm(naflex_folder, llm_folder):
    torch.manual_seed(0)
    found = build_llava(naflex_folder, llm_folder, image_size=40)
    spread(found.model.model.multi_modal_projector)
    return found


def prompts(vlm, pictures):
    text = prompt_of(vlm.processor, 'how many stars?')
    return vlm.processor(
        images=pictures,
        text=[text] * len(pictures),
        return_tensors='pt',
        padding=True,
        padding_side='left',
    )


@torch.no_grad()
def test_tokens_are_those_of_transformers_for_each_image_alone(vlm):
    inputs, model = prompts(vlm, PICTURES), vlm.model
    shapes = inputs['spatial_shapes'].tolist()
    assert len({rows * columns for rows, columns in shapes}) > 1
    logits = model(**inputs).logits
    for i, picture in enumerate(PICTURES):
        alone = prompts(vlm, [picture])
        count = shapes[i][0] * shapes[i][1]
        assert (alone['input_ids'] == model.config.image_token_id).sum() == count
        names = ('pixel_values', 'pixel_attention_mask', 'spatial_shapes')
        images = {name: alone[name] for name in names}
        states = model.model.vision_tower(**images, output_hidden_states=True).hidden_states[-2]
        embedded = model.get_input_embeddings()(alone['input_ids'])
        places = alone['input_ids'] == model.config.image_token_id
        embedded[places] = model.model.multi_modal_projector(states[0, :count])
        expected = model.lm_head(
            model.model.language_model(inputs_embeds=embedded).last_hidden_state
        )
        found = logits[i, -expected.shape[1] :]
        torch.testing.assert_close(found, expected[0], rtol=1e-4, atol=1e-4)


def test_saved_asked_and_trained(vlm, naflex_folder, llm_folder, tmp_path):
    chat = VisionChat(vlm)
    answers = chat(PICTURES, 'how many stars?', max_new_tokens=4)
    assert answers == [chat(picture, 'how many stars?', max_new_tokens=4) for picture in PICTURES]
    vlm.save_pretrained(tmp_path)
    again = load_pretrained_model(tmp_path)
    assert VisionChat(again)(PICTURES, 'how many stars?', max_new_tokens=4) == answers
    larger = load_pretrained_model(tmp_path, custom_vision_config=dict(image_size=64))
    assert larger.model.config.image_seq_length == larger.image_processor.max_num_patches == 64
    settings = json.loads((tmp_path / 'processor_config.json').read_text())
    for wrong in ('many', -3, 10**9):
        settings['image_processor']['max_num_patches'] = wrong
        (tmp_path / 'processor_config.json').write_text(json.dumps(settings))
        with pytest.raises(ValueError, match=f'max_num_patches: expected .* found {wrong!r}'):
            load_pretrained_model(tmp_path)
    with pytest.raises(ValueError, match='vision: expected an encoder of fixed resolution, found'):
        LlavaTrainer(naflex_folder, llm_folder)


def test_depth_is_on_the_grid_of_each_image(naflex_folder, llm_folder):
    vlm = build_llava(naflex_folder, llm_folder, image_size=40)
    vlm.model.add_depth_fusion(DEPTH)
    torch.nn.init.normal_(vlm.model.depth_fusion.last.weight)
    inputs = prompts(vlm, PICTURES)
    depths = [torch.rand(picture.height, picture.width) + 2 for picture in PICTURES]
    shapes = inputs['spatial_shapes']
    found = depth_statistics(depths, vlm.image_processor, vlm.model.config, sizes=shapes)
    expected = [
        patch_statistics(depth[None], grid=tuple(shape), names=DEPTH['names']).values[0]
        for depth, shape in zip(depths, shapes.tolist(), strict=True)
    ]
    assert torch.equal(found, torch.cat(expected))
    for wrong, count in ((None, 0), (shapes[:-1], len(shapes) - 1)):
        with pytest.raises(ValueError, match=f'spatial_shapes of .* as sizes, found {count}'):
            depth_statistics(depths, vlm.image_processor, vlm.model.config, sizes=wrong)
    names = ('pixel_values', 'pixel_attention_mask', 'spatial_shapes')
    images = {name: inputs[name] for name in names}
    with torch.no_grad():
        plain = vlm.model.model.get_image_features(**images).pooler_output
        fused = vlm.model.model.get_image_features(**images, depth_statistics=found).pooler_output
        for one, other, statistics in zip(plain, fused, expected, strict=True):
            added = vlm.model.depth_fusion(one[None], statistics[None])[0]
            torch.testing.assert_close(other, added, rtol=1e-5, atol=1e-5)
    chat = VisionChat(vlm)
    answers = chat(PICTURES, 'what?', depths=depths, max_new_tokens=3)
    one = chat(PICTURES[1], 'what?', depths=depths[1], max_new_tokens=3)
    assert answers[1] == one
    with pytest.raises(ValueError, match='pixel_attention_mask and spatial_shapes beside'):
        vlm.model.model.get_image_features(inputs['pixel_values'])
