from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peak_memory import refusal
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from mmseg_siglip.models.backbones.build import build_encoder
from mmseg_siglip.weights.shards import NAMES, read_index, weight_files
from mmseg_siglip.weights.transformers_model import (
    build_model,
    config_of,
    load_model,
    load_model_config,
    save_model,
)

SAFE, _, PICKLED, _ = NAMES
LOST = 'vision_model.encoder.layers.0.mlp.fc1.weight'


@pytest.fixture
def folder(siglip_folder, tmp_path):
    shutil.copytree(siglip_folder, tmp_path / 'model')
    return tmp_path / 'model'


def load(folder):
    return load_model(str(folder), load_model_config(str(folder)))


def change_weights(folder, change):
    state = load_file(folder / SAFE)
    change(state)
    save_file(state, folder / SAFE, metadata=dict(format='pt'))


def change_config(folder, **change):
    path = folder / 'config.json'
    fields = json.loads(path.read_text())
    fields['vision_config'] |= change
    path.write_text(json.dumps(fields))


def test_not_finite(folder):
    change_weights(folder, lambda state: state[LOST].fill_(float('nan')))
    with pytest.raises(ValueError, match=rf'^{folder}: expected finite weights, .* in {LOST}'):
        load(folder)


def test_another_shape_is_named(folder):
    change_weights(folder, lambda state: state.update({LOST: torch.zeros(3, 5)}))
    with pytest.raises(ValueError, match=rf'expected shape \(48, 32\) for {LOST}, found \(3, 5\)'):
        load(folder)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(hidden_size=10**5), r'that \d+ bytes of weights can fill, found one of \d+ weights'),
        (dict(intermediate_size=10**9), r'that \d+ bytes of weights can fill'),
        (dict(image_size=10**6), r'that \d+ bytes of weights can fill'),
        (dict(num_hidden_layers=10**9), 'num_hidden_layers of at most 1000'),
        (dict(hidden_size=-1), 'no configuration of a model that transformers can build'),
        (dict(hidden_size='wide'), 'no configuration'),
        (dict(quantization_config=dict(quant_method='bitsandbytes')), 'expected plain weights'),
    ],
)
def test_a_configuration_of_another_size(folder, change, message):
    change_config(folder, **change)
    with pytest.raises(ValueError, match=rf'^{folder}: .*{message}') as caught:
        load(folder)
    assert '\n' not in str(caught.value)


def test_a_width_in_a_small_file_gets_no_memory(folder):
    change_config(folder, intermediate_size=4 * 10**6)  # 3 gigabytes
    for path in (folder, folder / SAFE):
        said, megabytes = refusal(lambda path=path: build_encoder(str(path)))
        assert 'bytes of weights can fill' in said
        assert megabytes < 100


def test_a_configuration_is_left_as_it_is(siglip_folder):
    config = load_model_config(siglip_folder)
    before = config.to_dict()
    load_model(siglip_folder, config)
    assert config.to_dict() == before


@pytest.mark.parametrize('new_format', [True, False])
def test_a_pickle_is_refused_by_what_it_refers_to(folder, new_format):
    (folder / SAFE).unlink()
    content = {'x': print}
    torch.save(content, folder / PICKLED, _use_new_zipfile_serialization=new_format)
    with pytest.raises(ValueError, match=rf'{PICKLED} is refused: .* namely (builtins.)?print'):
        load(folder)


def test_damaged_weights_are_one_sentence(folder):
    state = load_file(folder / SAFE)
    torch.save(state, folder / PICKLED)
    for name, other in ((SAFE, PICKLED), (PICKLED, SAFE)):
        whole = (folder / name).read_bytes()
        for end in (0, 4, 100, len(whole) // 2, len(whole) - 3):
            (folder / name).write_bytes(whole[:end])
            with pytest.raises(ValueError, match=str(folder)) as caught:
                load(folder)
            assert '\n' not in str(caught.value)
        (folder / name).unlink()
        assert other == SAFE or (folder / other).is_file()


def test_adapters_are_no_whole_weights(folder):
    (folder / 'adapter_config.json').write_text('{"base_model_name_or_path": "somewhere/else"}')
    with pytest.raises(
        ValueError, match=r'expected whole weights, found adapters \(adapter_config'
    ):
        load(folder)


def test_a_json_file_that_a_library_passes_over(folder):
    (folder / 'generation_config.json').write_text('[1]')
    with pytest.raises(ValueError, match=r'generation_config\.json: expected a JSON object'):
        load(folder)


def test_shards_lie_beside_their_index(siglip_folder, tmp_path):
    model = load(siglip_folder)
    model.save_pretrained(tmp_path, max_shard_size='30KB')
    shutil.copy(Path(siglip_folder, 'config.json'), tmp_path)
    assert len(weight_files(str(tmp_path))) > 3
    load(tmp_path)
    path = tmp_path / f'{SAFE}.index.json'
    index = json.loads(path.read_text())
    for value in ('../x.safetensors', '/x', '', 3, None):
        index['weight_map'][LOST] = value
        path.write_text(json.dumps(index))
        with pytest.raises(ValueError, match=rf'{path.name}: expected files beside it, found '):
            load(tmp_path)
    for value in ([], {}, 'x', None):
        path.write_text(json.dumps(dict(index, weight_map=value)))
        with pytest.raises(ValueError, match='expected weight_map'):
            read_index(path)


def test_random_weights_of_fields():
    fields = dict(model_type='vit', hidden_size=8, intermediate_size=8, num_hidden_layers=1)
    config = config_of(dict(fields, num_attention_heads=1, attn_implementation='eager'))
    assert isinstance(config, type(AutoConfig.for_model('vit')))
    assert next(build_model(config).parameters()).dtype == torch.float32
    with pytest.raises(ValueError, match=r'^here: no configuration .*evil'):
        config_of(dict(model_type='evil'), 'here')
    with pytest.raises(ValueError, match=r'^here: no configuration'):
        config_of(dict(fields, hidden_size=[8]), 'here')


def test_weights_are_as_readable_as_any_file(tmp_path, siglip_folder):
    save_model(load_model(siglip_folder, load_model_config(siglip_folder)), tmp_path)
    (tmp_path / 'any').touch()
    modes = {path.name: path.stat().st_mode for path in tmp_path.iterdir()}
    assert modes[SAFE] == modes['config.json'] == modes['any']
