from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from mmseg_siglip.models.backbones import build_encoder

WEIGHTS = 'adapter_model.safetensors'
SETTINGS = {
    'query and value': dict(r=4, lora_alpha=6, target_modules=['q_proj', 'v_proj']),
    'stable': dict(r=2, lora_alpha=3, use_rslora=True, target_modules=['out_proj', 'fc1']),
    'patterns': dict(
        r=3,
        lora_alpha=6,
        target_modules=['fc1', 'fc2', 'q_proj'],
        rank_pattern={'fc2': 2},
        alpha_pattern={'layers.0.mlp.fc1': 1.5},
    ),
}


def write(base, folder, settings):
    """A folder of adapters as peft saves it, and the weights as it merges them."""
    settings = dict(settings)
    if 'out_proj' in settings['target_modules']:  # not the pooling head's
        names = '|'.join(settings['target_modules'])
        settings['target_modules'] = rf'.*\\.layers\\..*({names})'.replace('\\\\', '\\')
    adapted = get_peft_model(AutoModel.from_pretrained(base), LoraConfig(**settings))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if 'lora_' in name:
                weight.normal_(std=0.3)
    adapted.save_pretrained(folder)
    return adapted.merge_and_unload()


@pytest.fixture(params=['siglip_folder', 'clip_folder'])
def base(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize('name', SETTINGS)
def test_equals_what_peft_merges(tmp_path, base, name):
    merged = write(base, tmp_path / 'adapters', SETTINGS[name])
    merged.save_pretrained(tmp_path / 'merged')
    for file in ('tokenizer.json', 'tokenizer_config.json', 'preprocessor_config.json'):
        path = f'{base}/{file}'
        try:
            (tmp_path / 'merged' / file).write_bytes(open(path, 'rb').read())
        except FileNotFoundError:
            pass
    plain, expected = build_encoder(base), build_encoder(str(tmp_path / 'merged'))
    found = build_encoder(str(tmp_path / 'adapters'))
    assert type(found) is type(expected)
    changed = 0
    for key, weight in expected.model.state_dict().items():
        torch.testing.assert_close(found.model.state_dict()[key], weight, rtol=1e-5, atol=1e-6)
        changed += not torch.equal(plain.model.state_dict()[key], weight)
    assert changed >= 4


def change(folder, **fields):
    path = folder / 'adapter_config.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(peft_type='IA3'), "expected peft_type LORA, found 'IA3'; merge"),
        (dict(use_dora=True), 'expected use_dora False, found True'),
        (dict(base_model_name_or_path=None), 'base_model_name_or_path to name .* found None'),
        (dict(alpha_pattern={'(a+)+b': 1}), 'expected names in alpha_pattern, found'),
        (dict(lora_alpha='a'), "expected a number as lora_alpha, found 'a'"),
        (dict(lora_alpha=10**400), 'expected a number as lora_alpha, found 1000'),
        (dict(alpha_pattern=[1]), r'expected alpha_pattern by names, found \[1\]'),
        (dict(init_lora_weights='pissa'), "leaves the base as it is, found 'pissa'; merge"),
        (dict(use_qalora=True), 'expected use_qalora False, found True'),
        (dict(layer_replication=[[0, 1]]), 'expected layer_replication None, found'),
    ],
)
def test_what_is_not_read_is_one_sentence(tmp_path, siglip_folder, fields, message):
    write(siglip_folder, tmp_path, SETTINGS['query and value'])
    change(tmp_path, **fields)
    with pytest.raises(ValueError, match=message) as caught:
        build_encoder(str(tmp_path))
    assert str(tmp_path) in str(caught.value) and '\n' not in str(caught.value)


def test_weights_that_belong_to_nothing(tmp_path, siglip_folder):
    write(siglip_folder, tmp_path, SETTINGS['query and value'])
    state = load_file(tmp_path / WEIGHTS)
    name = next(iter(state))
    value = state.pop(name)
    for wrong, message in (
        ({**state, 'base_model.model.other.lora_A.weight': value}, 'found base_model.model.other'),
        (state, 'expected lora_A and lora_B of .*, found lora_B'),
        ({**state, name: value[:, :-1].clone()}, 'expected lora_A and lora_B of .*found lora_'),
        ({**state, name: value * float('nan')}, 'expected finite weights'),
        (
            {
                n: v[:0] if '_A' in n else v[:, :0].clone()
                for n, v in {**state, name: value}.items()
            },
            'expected lora_A and lora_B of .*found lora_',
        ),
    ):
        save_file(wrong, tmp_path / WEIGHTS)
        with pytest.raises(ValueError, match=message):
            build_encoder(str(tmp_path))
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=f'expected {WEIGHTS} beside'):
        build_encoder(str(tmp_path))
