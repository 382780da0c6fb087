"""Models of other image sizes than their towers': stock transformers runs what is saved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from mmseg_siglip.vlm import VisionChat, build_llava, load_pretrained_model
from mmseg_siglip.vlm.processing import prompt_of

PICTURE = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8), 'RGB'
)


@pytest.mark.parametrize(('tower', 'size'), [('siglip', 24), ('clip', 48)])
def test_stock_transformers_runs_at_the_size(
    siglip_folder, clip_folder, llm_folder, tmp_path, tower, size
):
    torch.manual_seed(0)
    vlm = build_llava(
        siglip_folder if tower == 'siglip' else clip_folder, llm_folder, image_size=size
    )
    position = vlm.model.model.vision_tower.embeddings.position_embedding.weight
    before = position.clone()
    vlm.save_pretrained(tmp_path)
    assert torch.equal(position, before) and vlm.model.config.vision_config.image_size == 32
    stock = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    processor = transformers.AutoProcessor.from_pretrained(tmp_path)
    inputs = processor(
        images=PICTURE, text=prompt_of(vlm.processor, 'how many stars?'), return_tensors='pt'
    )
    assert inputs['pixel_values'].shape == (1, 3, size, size)
    with torch.no_grad():
        found, expected = stock(**inputs).logits, vlm.model(**inputs).logits
        again = load_pretrained_model(tmp_path).model(**inputs).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(again, expected, rtol=1e-5, atol=1e-5)
    assert stock.config.vision_config.image_size == size


def test_stock_pipeline_answers_as_a_chat(siglip_folder, llm_folder, tmp_path):
    torch.manual_seed(0)
    vlm = build_llava(siglip_folder, llm_folder, image_size=48)
    vlm.save_pretrained(tmp_path)
    ask = transformers.pipeline('image-text-to-text', model=str(tmp_path))
    text = prompt_of(vlm.processor, 'how many stars?')
    (found,) = ask(images=PICTURE, text=text, max_new_tokens=4, return_full_text=False)
    expected = VisionChat(vlm)(PICTURE, 'how many stars?', max_new_tokens=4)
    assert found['generated_text'].strip() == str(expected)


def test_what_is_no_square_is_said(siglip_folder, llm_folder, tmp_path):
    vlm = build_llava(siglip_folder, llm_folder, image_size=(32, 48))
    with pytest.warns(UserWarning, match='cannot run the model at 32x48 .* which is no square'):
        vlm.save_pretrained(tmp_path)
    config = load_pretrained_model(tmp_path).model.config
    assert config.vision_config.image_size == 32 and config.image_seq_length == 24
