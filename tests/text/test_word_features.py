from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from mmseg_siglip.models.backbones import CLIPBackbone
from mmseg_siglip.text.vocabulary import Vocabulary
from mmseg_siglip.text.word_features import word_features

WORDS = Vocabulary.load(['cat', 'dog, hound', 'sky'])
TEMPLATES = ['a {}.', 'a photo of a {} in the scene', 'itap of {}']


@pytest.fixture
def clip(openai_file):
    return CLIPBackbone(openai_file)


def by_hand(clip, word, template):
    return normalize(clip.encode_text([template.replace('{}', word)])[0], dim=0)


@pytest.mark.parametrize('frozen', [True, False])
@torch.no_grad()
def test_each_prompt_is_the_unit_vector_of_its_sentence(clip, frozen):
    first = word_features(clip, WORDS, TEMPLATES, frozen=frozen)
    assert first.shape == (3, 3, 48)
    torch.testing.assert_close(first[1, 2], by_hand(clip, 'dog', TEMPLATES[2]), atol=1e-5, rtol=0)
    every = word_features(clip, WORDS, TEMPLATES, synonyms='max', frozen=frozen)
    assert every.shape == (4, 3, 48)
    torch.testing.assert_close(every[2, 0], by_hand(clip, 'hound', TEMPLATES[0]), atol=1e-5, rtol=0)
    mean = word_features(clip, WORDS, TEMPLATES, synonyms='mean', frozen=frozen)
    wanted = normalize(every[1:3].mean(0), dim=-1)
    torch.testing.assert_close(mean[1], wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(mean[[0, 2]], first[[0, 2]], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_background_is_encoded_by_its_words(clip):
    """Not by the name that it has for people."""
    marked = Vocabulary.load(['cat', '[background] dog, hound', 'sky'])
    for synonyms in ('first', 'mean', 'max'):
        found = word_features(clip, marked, TEMPLATES, synonyms=synonyms)
        torch.testing.assert_close(found, word_features(clip, WORDS, TEMPLATES, synonyms=synonyms))


@pytest.mark.parametrize('with_cp', [False, True])
def test_gradients_reach_the_encoder(clip, with_cp):
    clip.with_cp = with_cp
    word_features(clip, WORDS, TEMPLATES, frozen=False).sum().backward()
    assert clip.model.token_embedding.weight.grad.abs().sum() > 0
    assert not word_features(clip, WORDS, TEMPLATES, frozen=True).requires_grad
