import json

import pytest
from open_clip import get_model_config
from open_clip.constants import HF_CONFIG_NAME

from mmseg_siglip.models.backbones.siglip_checkpoint import read_open_clip_siglip
from mmseg_siglip.weights.source import Source

NAME = 'ViT-B-16-SigLIP2-256'
TYPES = ('siglip', 'siglip2')


def read(source=None, config=None):
    return read_open_clip_siglip(source, config, TYPES)


def test_transformers_own_are_left_to_it(siglip_folder, openai_file):
    assert read(Source.open(siglip_folder)) is None
    assert read(Source.open(f'{siglip_folder}/model.safetensors')) is None
    assert read(config=dict(model_type='siglip')) is None
    assert read(Source.open(openai_file)) is None


@pytest.mark.parametrize(
    'config', [NAME, get_model_config(NAME), dict(model_cfg=get_model_config(NAME))]
)
def test_random_weights_of_a_configuration(config):
    found = read(config=config)
    assert found.checkpoint.state is None and found.checkpoint.config['embed_dim'] == 768
    assert found.tokenizer == get_model_config(NAME)['text_cfg']['hf_tokenizer_name']


@pytest.mark.parametrize('beside', [None, 'tokenizer.json', 'tokenizer_config.json'])
def test_the_tokenizer_beside_the_configuration_comes_first(tmp_path, beside):
    (tmp_path / HF_CONFIG_NAME).write_text(json.dumps(dict(model_cfg=get_model_config(NAME))))
    if beside is not None:
        (tmp_path / beside).touch()
    named = get_model_config(NAME)['text_cfg']['hf_tokenizer_name']
    assert read(config=str(tmp_path)).tokenizer == (named if beside is None else str(tmp_path))


@pytest.mark.parametrize('kwargs', [None, dict(clean='whitespace')])
def test_words_that_are_prepared_in_another_way(kwargs):
    config = get_model_config(NAME)
    config['text_cfg']['tokenizer_kwargs'] = kwargs
    with pytest.raises(ValueError, match='expected tokenizer_kwargs .*canonicalize.*, found'):
        read(config=config)
