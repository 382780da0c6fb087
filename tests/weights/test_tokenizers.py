from __future__ import annotations

import json
import shutil

import pytest
from fuzz.folders import write_tips

from mmseg_siglip.models.backbones.build import build_encoder
from mmseg_siglip.weights.tokenizers import load_tokenizer


@pytest.fixture
def folder(siglip_folder, tmp_path):
    shutil.copytree(siglip_folder, tmp_path / 'model')
    return tmp_path / 'model'


def change(path, **fields):
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | fields))


def test_a_shipped_one_by_its_name():
    tokenizer = load_tokenizer('tiny_siglip_shapes', padding=True)
    assert tokenizer.pad_token_id is not None
    assert tokenizer.model_max_length == 24


@pytest.mark.parametrize('longest', ['64', -1, 0, [64], True])
def test_a_length_that_is_none(folder, longest):
    change(folder / 'tokenizer_config.json', model_max_length=longest)
    with pytest.raises(ValueError, match=rf'^{folder}: expected model_max_length .*, found '):
        load_tokenizer(str(folder))
    with pytest.raises(ValueError, match=rf'^{folder}: expected model_max_length '):
        build_encoder(str(folder))


def test_no_token_to_pad_with(folder):
    path = folder / 'tokenizer_config.json'
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in fields.items() if k != 'pad_token'}))
    load_tokenizer(str(folder))
    with pytest.raises(ValueError, match=rf'^{folder}: expected a tokenizer with a padding token'):
        build_encoder(str(folder))


@pytest.mark.parametrize('added', [False, True])
def test_ids_beyond_any_vocabulary(folder, added):
    path = folder / 'tokenizer.json'
    fields = json.loads(path.read_text())
    if added:
        fields['added_tokens'][0]['id'] = 2**31 - 1
    else:
        fields['model']['vocab']['far'] = 2**31 - 1
    path.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=rf'^{path}: expected token ids of at most 4000000, found'):
        load_tokenizer(str(folder))


def test_a_tokenizer_that_lost_its_words(tmp_path):
    """transformers makes one that takes all words for one."""
    write_tips(tmp_path)
    build_encoder(str(tmp_path))
    (tmp_path / 'tokenizer.json').unlink()
    with pytest.raises(ValueError, match=rf'^{tmp_path}: expected a tokenizer of'):
        build_encoder(str(tmp_path))
