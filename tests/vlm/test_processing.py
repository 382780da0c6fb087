"""Image processors at the tower's size; as many placeholders as features."""

from __future__ import annotations

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import SiglipImageProcessor

from mmseg_siglip.vlm.checkpoints import read_vision_config
from mmseg_siglip.vlm.processing import (
    get_size,
    load_image_processor,
    make_processor,
    prompt_of,
)
from mmseg_siglip.weights.tokenizers import load_tokenizer

PHOTO = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)


@pytest.mark.parametrize('size', [(32, 32), (24, 40)])
def test_every_encoder_gives_images_of_the_size(siglip_folder, clip_folder, naflex_folder, size):
    for folder in (siglip_folder, clip_folder, naflex_folder):
        config = read_vision_config(folder)
        processor = load_image_processor(folder, config, size=size)
        assert get_size(processor) == size
        assert tuple(processor([PHOTO], return_tensors='pt')['pixel_values'].shape[-2:]) == size
        assert (processor.crop_size['height'], processor.crop_size['width']) == size


def test_siglip_squeezes_and_clip_crops_the_middle(siglip_folder, clip_folder):
    striped = torch.zeros(3, 32, 64, dtype=torch.uint8)
    striped[:, :, 48:] = 255  # the right quarter
    found = {}
    for name, folder in (('siglip', siglip_folder), ('clip', clip_folder)):
        processor = load_image_processor(folder, read_vision_config(folder), size=(32, 32))
        pixels = processor([striped], return_tensors='pt')['pixel_values'][0, 0]
        found[name] = (pixels[:, -1] > pixels[:, 0]).all()
    assert found['siglip'] and not found['clip']


def test_a_folder_without_a_processor(tmp_path, siglip_folder):
    config = read_vision_config(siglip_folder)
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match='expected an image processor .preprocessor_config.json'):
        load_image_processor(str(tmp_path), config, size=(32, 32))


def test_a_size_that_is_none():
    processor = SiglipImageProcessor(size=dict(shortest_edge=32))
    with pytest.raises(ValueError, match='expected a height and a width'):
        get_size(processor)


def test_a_placeholder_for_each_token_and_a_prompt_of_any_chat(siglip_folder, llm_folder):
    config = read_vision_config(siglip_folder)
    size = (4 * config.patch_size, 3 * config.patch_size)
    images = load_image_processor(siglip_folder, config, size=size)
    processor = make_processor(images, load_tokenizer(llm_folder), config, 'full')
    asked = [dict(type='image'), dict(type='text', text='how many?')]
    text = processor.apply_chat_template(
        [dict(role='user', content=asked)], add_generation_prompt=True
    )
    assert text.count('<image>') == 1 and 'how many?' in text


@pytest.mark.parametrize('begins', [True, False])
def test_a_text_begins_once(siglip_folder, llm_folder, begins):
    """Templates of Llama and Mistral begin as their tokenizers do."""
    config = read_vision_config(siglip_folder)
    images = load_image_processor(siglip_folder, config, size=(32, 32))
    tokenizer = load_tokenizer(llm_folder)
    tokenizer.chat_template = "{{ bos_token + 'USER: ' + messages[0].content }}"
    if not begins:
        tokenizer._tokenizer.post_processor = TemplateProcessing(single='$A', pair='$A $B')
    processor = make_processor(images, tokenizer, config, 'full')
    text = prompt_of(processor, 'how many?', image=False)
    ids = processor(text=text)['input_ids'][0]
    assert ids[0] == tokenizer.bos_token_id and tokenizer.bos_token_id not in ids[1:]


def test_a_prompt_does_not_end(siglip_folder, llm_folder):
    """``add_eos_token``, left from a training, would have every answer begin after the end."""
    config = read_vision_config(siglip_folder)
    images = load_image_processor(siglip_folder, config, size=(32, 32))
    tokenizer = load_tokenizer(llm_folder)
    end = (tokenizer.eos_token, tokenizer.eos_token_id)
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single=f'$A {end[0]}', pair=f'$A $B {end[0]}', special_tokens=[end]
    )
    processor = make_processor(images, tokenizer, config, 'full')
    with pytest.raises(
        ValueError, match='tokenizer: expected prompts that go on, found </s> added'
    ):
        prompt_of(processor, 'how many?')


def test_a_template_holds_the_question(siglip_folder, llm_folder):
    config = read_vision_config(siglip_folder)
    images = load_image_processor(siglip_folder, config, size=(32, 32))
    tokenizer = load_tokenizer(llm_folder)
    processor = make_processor(images, tokenizer, config, 'full')
    processor.chat_template = "{{ 'USER: ' + messages[0].content | string | trim | truncate(3) }}"
    with pytest.raises(ValueError, match="chat_template: expected a prompt .* 'how many.', found"):
        prompt_of(processor, 'how many?', image=False)
    processor.chat_template = "{{ 'USER: ' + messages[0].content[0].text | trim }}"
    assert prompt_of(processor, ' how many? ', image=False).endswith('USER: how many?')
