"""Words that an encoder cannot tell apart are refused by name, where they are set."""

from __future__ import annotations

import warnings

import pytest
from open_clip.tokenizer import SimpleTokenizer, canonicalize_text

from mmseg_siglip.api import OpenVocabSegmenter
from mmseg_siglip.text import distinct
from mmseg_siglip.text.distinct import check_distinct, check_phrases_distinct, warn_of_silence
from mmseg_siglip.text.vocabulary import Vocabulary, bundled_names


class Canonical:
    """Reads as SigLIP does, letter by letter; what is not ASCII is unknown."""

    tokenizer = 'some'

    def token_rows(self, texts):
        known = (canonicalize_text(text) for text in texts)
        return [tuple(letter if letter.isascii() else '?' for letter in text) for text in known]


class CLIP:
    tokenizer = SimpleTokenizer()

    def token_rows(self, texts):
        return [tuple(self.tokenizer.encode(text)) for text in texts]


class Mute:
    tokenizer = None


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(distinct, 'print_log', lambda text, _: lines.append(text))
    return lines


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (['C++', 'C#'], r"class 1, 'C#': 'C#' reads the same as 'C\+\+' of class 0, 'C\+\+'"),
        (['cat', 'dog/cat', 'pet, dogcat'], "class 2, 'pet': 'dogcat' reads the same as 'dog/cat'"),
        (['cat', '?'], "class 1, '[?]': '[?]' reads as nothing to this encoder"),
        (['cat, +', 'dog'], "class 0, 'cat': '[+]' reads as nothing"),
        (['猫', '狗'], "class 1, '狗': '狗' reads the same as '猫' of class 0"),
    ],
)
def test_what_one_encoder_reads_alike_another_tells_apart(words, sentence):
    vocabulary = Vocabulary.load(words)
    with pytest.raises(ValueError, match=sentence):
        check_distinct(vocabulary, Canonical())
    for reader in (CLIP(), Mute()):
        assert check_distinct(vocabulary, reader) is vocabulary


def test_synonyms_may_read_alike_and_so_may_what_is_repeated_on_purpose():
    for words in (['ash-bin, ashbin', 'vent'], 'ade20k_sclip'):
        check_distinct(Vocabulary.load(words), Canonical())


@pytest.mark.parametrize('reader', [Canonical(), CLIP()], ids=['SigLIP', 'CLIP'])
@pytest.mark.parametrize('name', bundled_names())
def test_no_bundled_list_collides(name, reader, said):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check_distinct(Vocabulary.load(name), reader)
    parted = {'ade847', 'coco_stuff_catseg', 'coco_stuff_sclip', 'context459'}
    assert bool(said) == (name in parted and isinstance(reader, Canonical))


def test_words_that_read_as_one_are_told_once(said):
    check_distinct(Vocabulary.load(['wall-brick', 'sky/clouds', 'wall']), Canonical())
    assert said == [
        "2 words read without the marks between their parts, such as 'wall-brick' as 'wallbrick'; "
        'where they are several words, spell them with spaces'
    ]
    check_distinct(Vocabulary.load(['wall brick', 'sky clouds', 'wall']), Canonical())
    check_distinct(Vocabulary.load(['wall-brick', 'wall']), CLIP())
    assert len(said) == 1


def test_phrases():
    check_phrases_distinct(['the cup', 'The  cup', 'the cup on the left'], Canonical())
    check_phrases_distinct(['C++', 'C#'], CLIP())
    check_phrases_distinct(['?'], Mute())
    with pytest.raises(ValueError, match=r"the phrases 'C\+\+' and 'C#' read the same"):
        check_phrases_distinct(['C++', 'C#'], Canonical())
    with pytest.raises(ValueError, match=r"the phrase '\?!' reads as nothing to this encoder"):
        check_phrases_distinct(['?!'], Canonical())


def test_phrases_of_a_data_set_are_not_its_end():
    with pytest.warns(UserWarning, match=r"the phrase '\?' reads as nothing"):
        warn_of_silence(['the cup', '?', ''], Canonical())
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        warn_of_silence(['the cup', ''], Canonical())
        warn_of_silence(['?'], CLIP())


def test_the_shipped_encoder_refuses_and_goes_on():
    segmenter = OpenVocabSegmenter.from_pretrained('tiny_siglip_shapes')
    before = segmenter.model.vocabulary
    with pytest.raises(ValueError, match="'C#' reads the same as"):
        segmenter.use(['C++', 'C#'])
    assert segmenter.model.vocabulary == before
    segmenter.use(['red circle', 'blue square'])
