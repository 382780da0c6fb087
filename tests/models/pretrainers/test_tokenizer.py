import pytest
from transformers import AutoTokenizer

from mmseg_siglip.models.pretrainers.tokenizer import train_tokenizer

SENTENCES = ['a photo of a red star', 'a blue ring on the grass', 'a red ring'] * 10


@pytest.fixture(scope='module')
def tokenizer():
    return train_tokenizer(SENTENCES, vocab_size=300, context_length=12)


def test_known_words_are_single_tokens_wherever_they_stand(tokenizer):
    first, middle = tokenizer('ring a').input_ids, tokenizer('a ring').input_ids
    assert len(first) == len(middle) == 3 and first[0] == middle[1]


def test_case_punctuation_and_spaces_do_not_matter(tokenizer):
    assert tokenizer('A Red   STAR!').input_ids == tokenizer('a red star').input_ids


@pytest.mark.parametrize('text', ['zebra', 'Fußgängerübergang', '日本', '🙂', 'x-ray', '', '  '])
def test_any_text_has_tokens_and_comes_back(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert ids[-1] == tokenizer.eos_token_id and ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(ids[:-1]).strip() == text.strip().lower().replace('ß', 'ß')


def test_padding_fills_the_context_on_the_right(tokenizer):
    ids = tokenizer(['star', 'a red star'], padding='max_length').input_ids
    assert [len(row) for row in ids] == [12, 12]
    assert ids[0][-1] == tokenizer.pad_token_id != tokenizer.eos_token_id


def test_loads_by_auto_tokenizer(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded('a red star!').input_ids == tokenizer('a red star').input_ids
    assert loaded.model_max_length == 12


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(ValueError, match='at least 258, got 100'):
        train_tokenizer(SENTENCES, vocab_size=100)
