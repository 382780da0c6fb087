"""Folders that are saved here, in transformers' own pipelines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_encoders import SIGLIP_CONFIGS, TEXT, write_siglip
from tiny_sams import SAM2_CONFIG, SAM_CONFIG
from transformers import Siglip2ImageProcessor, pipeline

from mmseg_siglip.cli.main import main
from mmseg_siglip.models.backbones import SigLIPBackbone
from mmseg_siglip.models.sam import SAMAdapter
from mmseg_siglip.vlm import build_llava

WORDS = ['red circle', 'blue square', 'sky']
TEMPLATE = 'this is a photo of {}'
"""In the words that every tokenizer here knows as SigLIP cleans them."""


@pytest.fixture(scope='module')
def image():
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def scores(encoder, image):
    """What SigLIP's formula makes of our encoder."""
    processed = encoder.image_processor([image], return_tensors='pt')['pixel_values']
    with torch.no_grad():
        images = torch.nn.functional.normalize(encoder.encode_image(processed), dim=-1)
        texts = encoder.encode_text([TEMPLATE.format(word) for word in WORDS])
        texts = torch.nn.functional.normalize(texts, dim=-1)
        logits = images @ texts.T * encoder.logit_scale + encoder.logit_bias
    return dict(zip(WORDS, logits.sigmoid()[0].tolist(), strict=True))


def classified(folder, image):
    run = pipeline('zero-shot-image-classification', model=str(folder), device='cpu')
    found = run(image, candidate_labels=WORDS, hypothesis_template=TEMPLATE)
    return {row['label']: row['score'] for row in found}


def test_the_shipped_encoder_with_as_many_positions(tmp_path, image, capsys):
    with pytest.raises(ValueError, match='less than max_position_embeddings'):
        classified(shipped(tmp_path), image)
    command = ['convert', 'lengthen-text']
    assert main([*command, 'tiny_siglip_shapes', str(tmp_path / 'longer')]) == 0
    ours, again = SigLIPBackbone('tiny_siglip_shapes'), SigLIPBackbone(str(tmp_path / 'longer'))
    expected = scores(ours, image)
    assert max(expected.values()) > 2 * min(expected.values())
    assert classified(tmp_path / 'longer', image) == pytest.approx(expected, rel=1e-3)
    texts = [*WORDS, 'a photo of a large red circle and a small blue square.', '']
    with torch.no_grad():
        torch.testing.assert_close(
            again.encode_text(texts), ours.encode_text(texts), rtol=1e-4, atol=1e-4
        )
    with pytest.raises(ValueError, match='expected a prompt of at most 23 tokens'):
        again.encode_text(['red ' * 23])
    assert main([*command, str(tmp_path / 'longer'), str(tmp_path / 'more')]) == 1
    assert 'expected fewer than 64 text positions, found 64' in capsys.readouterr().err


def shipped(tmp_path):
    SigLIPBackbone('tiny_siglip_shapes').save_pretrained(tmp_path / 'shipped')
    return tmp_path / 'shipped'


@pytest.mark.parametrize('kind', ['siglip', 'siglip2'])
def test_a_siglip_of_64_positions(tmp_path, image, kind):
    config = dict(SIGLIP_CONFIGS[kind])
    config['text_config'] = dict(TEXT, max_position_embeddings=64)
    write_siglip(tmp_path / 'written', config)
    ours = SigLIPBackbone(str(tmp_path / 'written'))
    if kind == 'siglip2':
        ours.image_processor = Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    ours.save_pretrained(tmp_path / 'saved')
    found = classified(tmp_path / 'saved', image)
    if kind == 'siglip':  # NaFlex cuts an image into other patches there
        assert found == pytest.approx(scores(ours, image), rel=1e-3)
    assert found.keys() == set(WORDS)


@pytest.mark.parametrize('size', [None, 48])
def test_a_llava(tmp_path, image, siglip_folder, llm_folder, size):
    torch.manual_seed(0)
    vlm = build_llava(siglip_folder, llm_folder, image_size=size)
    vlm.save_pretrained(tmp_path)
    run = pipeline('image-text-to-text', model=str(tmp_path), device='cpu')
    assert type(run.model).__name__ == 'LlavaForConditionalGeneration'
    assert run(images=image, text='<image> how many stars?', max_new_tokens=2)
    inputs = vlm.processor(images=image, text='<image> how many stars?', return_tensors='pt')
    with torch.no_grad():
        ours, stock = vlm.model(**inputs).logits, run.model(**inputs).logits
    torch.testing.assert_close(ours, stock, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', ['sam', 'sam2'])
def test_a_sam(tmp_path, image, kind):
    torch.manual_seed(0)
    SAMAdapter(config=SAM_CONFIG if kind == 'sam' else SAM2_CONFIG).save_pretrained(tmp_path)
    run = pipeline('mask-generation', model=str(tmp_path), device='cpu')
    settings = dict(pred_iou_thresh=-9.0, stability_score_thresh=-1.0, points_per_crop=3)
    found = run(image, **settings)
    assert all(np.asarray(mask).shape == (32, 32) for mask in found['masks'])
