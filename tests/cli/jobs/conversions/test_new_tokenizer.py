"""The shipped tokenizer is what the tool writes, and keeps any text whole."""

import json

from transformers import AutoTokenizer

from mmseg_siglip.cli.main import main
from mmseg_siglip.weights.tokenizers import load_tokenizer


def test_shipped_tokenizer_is_reproduced(tmp_path, repository):
    assert main(['convert', 'new-tokenizer', str(tmp_path)]) == 0
    shipped = repository / 'mmseg_siglip/assets/shapes_questions/tokenizer.json'
    assert json.loads((tmp_path / 'tokenizer.json').read_text()) == json.loads(shipped.read_text())


def test_words_are_tokens_and_any_text_survives():
    tokenizer = load_tokenizer('shapes_questions')
    assert isinstance(tokenizer, type(AutoTokenizer.from_pretrained(tokenizer.name_or_path)))
    for word in ('zero', 'crescent', 'purple', 'nearest'):
        assert len(tokenizer(f' {word}', add_special_tokens=False)['input_ids']) <= 2
    ids = tokenizer('Größe? 二 <pad>x')['input_ids']
    assert ids[0] == tokenizer.bos_token_id and ids[-1] != tokenizer.eos_token_id
    assert tokenizer.decode(ids[1:]) == 'Größe? 二 <pad>x'
