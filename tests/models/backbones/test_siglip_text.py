"""SigLIP's words: padded to the context, or as the tokenizer has them; saved without a mask."""

from __future__ import annotations

import json

import torch
from transformers import AutoModel, AutoTokenizer

from mmseg_siglip.models.backbones import SigLIPBackbone

TEXTS = ['a cat', 'a photo of the sky']


@torch.no_grad()
def test_tokens_and_vectors_are_those_of_the_whole_context(siglip_folder):
    encoder, stock = SigLIPBackbone(siglip_folder), AutoModel.from_pretrained(siglip_folder)
    tokens, real, vectors = encoder.encode_text_tokens(TEXTS)
    assert tokens.shape[:2] == real.shape == (2, encoder.context_length)
    assert real.any(1).all() and not real.all(1).any()
    expected = stock.text_model(encoder.tokenize(TEXTS)[0])
    torch.testing.assert_close(vectors, expected.pooler_output)
    torch.testing.assert_close(encoder.project_text(tokens)[:, -1], vectors)


@torch.no_grad()
def test_as_given_a_prompt_depends_on_what_stands_beside_it(siglip_folder):
    encoder = SigLIPBackbone(siglip_folder)
    tokens, together = encoder.encode_text_as_given(TEXTS)
    ids = encoder.tokenizer(TEXTS, padding=True)['input_ids']
    assert tokens.shape[1] == len(ids[0]) == len(ids[1]) < encoder.context_length
    assert not torch.allclose(encoder.encode_text_as_given(TEXTS[:1])[1], together[:1], atol=1e-3)


def test_a_saved_tokenizer_gives_no_mask(siglip_folder, tmp_path):
    encoder = SigLIPBackbone(siglip_folder)
    encoder.tokenizer.model_input_names = ['input_ids', 'attention_mask']
    encoder.save_pretrained(tmp_path)
    assert list(AutoTokenizer.from_pretrained(tmp_path)(TEXTS)) == ['input_ids']
    assert encoder.tokenizer.model_input_names == ['input_ids', 'attention_mask']
    settings = json.loads((tmp_path / 'tokenizer_config.json').read_text())
    assert settings['model_input_names'] == ['input_ids']
