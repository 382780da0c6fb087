from __future__ import annotations

import os

import pytest

from mmseg_siglip.weights.json_file import check_folder, check_model_fields, read_object


@pytest.mark.parametrize(
    ('content', 'found'),
    [
        (b'', 'found no JSON'),
        (b'{"a": ', 'found no JSON'),
        (b'[' * 100_000, 'found no JSON'),
        (b'\xff\xfe', 'found no JSON'),
        (b'[1]', 'found a list'),
        (b'null', 'found a NoneType'),
    ],
)
def test_what_is_no_object(tmp_path, content, found):
    path = tmp_path / 'config.json'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf'config\.json: expected a JSON object, {found}'):
        read_object(path)
    with pytest.raises(ValueError, match=r'config\.json: expected a JSON object'):
        check_folder(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'config.json')
    with pytest.raises(ValueError, match=r'config\.json: expected .* \(is a named pipe, expected'):
        read_object(tmp_path / 'config.json')


def test_an_object_is_read(tmp_path):
    (tmp_path / 'a.json').write_bytes(b'\xef\xbb\xbf{"a": 1}')
    (tmp_path / 'tokenizer.json').write_bytes(b'left to the tokenizer')
    assert read_object(tmp_path / 'a.json') == dict(a=1)
    check_folder(tmp_path)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(vision_config=dict(num_hidden_layers=10**9)), 'num_hidden_layers of at most 1000'),
        (dict(depths=[2, 10**6]), 'depths of at most 1000, found 1000000'),
        (dict(num_labels=10**9), 'num_labels of at most 100000'),
        (dict(hidden_dropout_prob=float('nan')), 'hidden_dropout_prob to be a finite number'),
        (dict(quantization_config=dict(quant_method='x')), 'found quantization_config'),
        (dict(transformers_weights='../x.safetensors'), 'found transformers_weights'),
    ],
)
def test_fields_of_no_model(fields, message):
    with pytest.raises(ValueError, match=rf'^there: expected .*{message}'):
        check_model_fields(fields, 'there')


def test_fields_of_a_model():
    fields = dict(
        num_hidden_layers=48, vocab_size=10**6, depths=[2, 2], quantization_config=None, layers=1.5
    )
    assert check_model_fields(fields, 'x') is fields
