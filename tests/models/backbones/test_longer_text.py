"""A text tower of more positions gives what the own one gives, for prompts that it had room for."""

from __future__ import annotations

import pytest
import torch
from tiny_encoders import SIGLIP_CONFIGS
from transformers import SiglipConfig, SiglipModel

from mmseg_siglip.models.backbones.longer_text import lengthen_text, with_longer_text


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    config = SiglipConfig.from_dict(SIGLIP_CONFIGS['siglip'])
    model = SiglipModel(config).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return model


@torch.no_grad()
@pytest.mark.parametrize('more', [1, 9, 40])
def test_padding_to_more_positions_changes_nothing(model, more):
    text = model.config.text_config
    pad, own = text.pad_token_id, text.max_position_embeddings
    words = torch.randint(2, text.vocab_size, (4, own)).where(
        torch.arange(own) < torch.tensor([[1], [2], [own // 2], [own - 1]]), torch.tensor(pad)
    )
    longer = with_longer_text(model, own + more)
    padded = torch.nn.functional.pad(words, (0, more), value=pad)
    expected = model.text_model(words).pooler_output
    found = longer.text_model(padded).pooler_output
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    other = model.text_model(words.roll(1, 0)).pooler_output
    assert not torch.allclose(found, other, atol=1e-2)


def test_refusals(model, naflex_folder, tmp_path):
    own = model.config.text_config.max_position_embeddings
    with pytest.raises(ValueError, match=f'fewer than {own} text positions, found {own}'):
        with_longer_text(model, own)
    with pytest.raises(ValueError, match='expected a SigLIP of fixed resolution'):
        lengthen_text(naflex_folder, tmp_path / 'out')
