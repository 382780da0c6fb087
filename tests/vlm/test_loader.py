"""The calls that people make, word for word, and one clear sentence where they go wrong."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass

import pytest
import torch
from tiny_vlm import write_llm, write_siglip

from mmseg_siglip.vlm import CustomVisionConfig, build_llava, load_pretrained_model

LLM, TOWER = 'TinyLlama/TinyLlama-1.1B-Chat-v1.0', 'google/siglip-base-patch16-224'


@pytest.fixture(scope='module')
def hub(tmp_path_factory):
    """A folder in which the names of two models on the Hub are small models of their kind."""
    folder = tmp_path_factory.mktemp('hub')
    write_siglip(folder / TOWER, hidden_size=768, intermediate_size=64, num_attention_heads=12)
    write_llm(folder / LLM)
    return folder


@pytest.fixture
def model_config(hub, monkeypatch):
    monkeypatch.chdir(hub)
    return {
        "model_name_or_path": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        "mm_vision_tower": "google/siglip-base-patch16-224",
        "mm_hidden_size": 768
    }  # fmt: skip


def check(model, image_processor, tokenizer, context_len, tokens=196):
    pixels = image_processor(
        [torch.zeros(3, 50, 70, dtype=torch.uint8)], return_tensors='pt'
    ).pixel_values
    text = '<image>' * tokens + ' how many stars?'
    inputs = tokenizer([text], return_tensors='pt')
    answer = model.generate(**inputs, pixel_values=pixels, max_new_tokens=3, do_sample=False)
    assert answer.shape[1] > inputs['input_ids'].shape[1]
    assert context_len == 512


def test_dictionary(model_config):
    with pytest.warns(FutureWarning, match='deprecated'):
        # Load the model with SigClip encoder
        model, image_processor, tokenizer, context_len = load_pretrained_model(
            model_config,
            encoder_type='sigclip',
        )
    check(model, image_processor, tokenizer, context_len)


def test_automatic_detection(model_config):
    # No need to specify encoder_type - it will be detected automatically
    model, image_processor, tokenizer, context_len = load_pretrained_model(
        model_config
    )  # fmt: skip
    check(model, image_processor, tokenizer, context_len)


def test_custom_size(model_config):
    with pytest.warns(FutureWarning, match='deprecated'):
        # Use the custom configuration
        model, image_processor, tokenizer, context_len = load_pretrained_model(
            model_config,
            encoder_type='sigclip',
            custom_vision_config=CustomVisionConfig()
        )  # fmt: skip
    check(model, image_processor, tokenizer, context_len)
    vlm = load_pretrained_model(
        model_config, custom_vision_config=CustomVisionConfig(image_size=448)
    )
    check(*vlm, tokens=784)


def test_two_orders(llava_folder):
    vlm = load_pretrained_model(llava_folder)
    model, image_processor, tokenizer, context_len = vlm
    assert vlm.as_llava() == (tokenizer, model, image_processor, context_len)
    assert (vlm.model, vlm.image_processor) == (model, image_processor)
    assert (vlm.tokenizer, vlm.context_len) == (tokenizer, context_len)


def test_wrong_width(model_config):
    with pytest.raises(
        ValueError, match='mm_hidden_size: expected 768, the width of .* found 1024'
    ):
        load_pretrained_model(model_config | dict(mm_hidden_size=1024))


def test_wrong_strategy(model_config):
    """The seed's own default."""

    @dataclass
    class CustomVisionConfig:
        image_size: int = 224
        vision_feature_layer: int = -2
        vision_feature_select_strategy: str = "default"  # fmt: skip

    with pytest.raises(ValueError, match="expected 'full' for SigLIP, found 'default'; .* no CLS"):
        load_pretrained_model(model_config, custom_vision_config=CustomVisionConfig())


def test_patch_of_a_siglip_is_all_tokens(model_config):
    """What LLaVA-NeXT's published configurations say."""
    with pytest.warns(UserWarning, match="'patch' of a SigLIP"):
        vlm = load_pretrained_model(model_config | dict(mm_vision_select_feature='patch'))
    check(*vlm)


def test_missing_processor(hub, model_config, llava_folder, tmp_path):
    shutil.copytree(hub / TOWER, tmp_path / 'tower')
    (tmp_path / 'tower' / 'preprocessor_config.json').unlink()
    with pytest.raises(ValueError, match='tower: expected an image processor'):
        load_pretrained_model(model_config | dict(mm_vision_tower=str(tmp_path / 'tower')))
    shutil.copytree(llava_folder, tmp_path / 'llava')
    (tmp_path / 'llava' / 'processor_config.json').unlink()
    with pytest.raises(ValueError, match='llava: expected a processor of images and text'):
        load_pretrained_model(tmp_path / 'llava')


def test_an_untrained_projector_is_told(model_config, tmp_path, recwarn):
    with pytest.warns(UserWarning, match='projector between google/.* is untrained: answers have'):
        vlm = load_pretrained_model(model_config)
    state = vlm.model.model.multi_modal_projector.state_dict()
    names = {f'multi_modal_projector.{name}': value for name, value in state.items()}
    torch.save(names, tmp_path / 'mm_projector.bin')
    recwarn.clear()
    load_pretrained_model(
        model_config | dict(pretrain_mm_mlp_adapter=str(tmp_path / 'mm_projector.bin'))
    )
    assert not [one for one in recwarn if 'untrained' in str(one.message)]


def test_text_only(model_config):
    with pytest.raises(
        ValueError, match='expected a LLaVA checkpoint, found a language model without vision'
    ):
        load_pretrained_model(model_config['model_name_or_path'])


def test_errors_are_one_line(model_config, siglip_folder, llava_folder):
    wrong = [
        (model_config | dict(mm_hidden_size=1), {}),
        (model_config | dict(mm_vision_select_feature='default'), {}),
        (model_config | dict(colour='red'), {}),
        (dict(mm_vision_tower=TOWER), {}),
        (siglip_folder, {}),
        ('./nowhere', {}),
        (model_config, dict(encoder_type='clip')),
        (llava_folder, dict(encoder_type='clip')),
        (llava_folder, dict(custom_vision_config=dict(image_size=30))),
    ]
    for config, options in wrong:
        with pytest.raises(ValueError) as caught:
            load_pretrained_model(config, **options)
        assert '\n' not in str(caught.value)


def test_two_words_for_one_tower(model_config):
    with pytest.raises(ValueError, match='expected one of mm_vision_tower and mm_image_tower, fou'):
        load_pretrained_model(model_config | dict(mm_image_tower='another'))


def test_words_of_llava(model_config):
    vlm = load_pretrained_model(
        model_config | dict(mm_vision_select_layer=-1, mm_vision_select_feature='full')
    )
    assert vlm.model.config.vision_feature_layer == -1
    custom = CustomVisionConfig(vision_feature_layer=-3)
    vlm = load_pretrained_model(
        model_config | dict(mm_vision_select_layer=-1), custom_vision_config=custom
    )
    assert vlm.model.config.vision_feature_layer == -3


@pytest.mark.parametrize('custom', [CustomVisionConfig, dict])
def test_what_is_not_said_stays_as_it_is(siglip_folder, llm_folder, tmp_path, custom):
    """The checkpoint's layer, or LLaVA's word for it, when only the size is asked for."""
    build_llava(siglip_folder, llm_folder, select_layer=-1).save_pretrained(tmp_path)
    saved = dict(model_name_or_path=str(tmp_path))
    assembled = dict(model_name_or_path=llm_folder, mm_vision_tower=siglip_folder)
    for words, layer, wanted in (
        (saved, None, -1),
        (saved, -3, -3),
        (assembled, None, -2),
        (assembled, -3, -3),
    ):
        words = words if layer is None else words | dict(mm_vision_select_layer=layer)
        config = load_pretrained_model(words, 'auto', custom(image_size=48)).model.config
        assert (config.vision_feature_layer, config.image_seq_length) == (wanted, 36)
        chosen = custom(image_size=48, vision_feature_layer=-4)
        assert load_pretrained_model(words, 'auto', chosen).model.config.vision_feature_layer == -4


def test_projector_of_another_checkpoint(siglip_folder, llm_folder, llava_folder, tmp_path):
    whole = load_pretrained_model(llava_folder).model.model.multi_modal_projector
    names = {'linear_1': '0', 'linear_2': '2'}
    torch.save(
        {
            f'model.mm_projector.{names[layer]}.{kind}': getattr(getattr(whole, layer), kind).data
            for layer in names
            for kind in ('weight', 'bias')
        },
        tmp_path / 'mm_projector.bin',
    )
    vlm = load_pretrained_model(
        dict(
            model_name_or_path=llm_folder,
            mm_vision_tower=siglip_folder,
            pretrain_mm_mlp_adapter=str(tmp_path),
        )
    )
    found = vlm.model.model.multi_modal_projector
    for name, value in whole.state_dict().items():
        assert torch.equal(value, found.state_dict()[name])


def test_strategy_of_a_checkpoint_is_checked_and_can_be_mended(llava_folder, tmp_path):
    shutil.copytree(llava_folder, tmp_path / 'llava')
    config = json.loads((tmp_path / 'llava' / 'config.json').read_text())
    config['vision_feature_select_strategy'] = 'default'
    (tmp_path / 'llava' / 'config.json').write_text(json.dumps(config))
    with pytest.raises(ValueError, match="expected 'full' for SigLIP, found 'default'"):
        load_pretrained_model(tmp_path / 'llava')
    custom = CustomVisionConfig(vision_feature_select_strategy='full')
    vlm = load_pretrained_model(tmp_path / 'llava', custom_vision_config=custom)
    assert vlm.processor.vision_feature_select_strategy == 'full'


def test_checkpoints_with_code_do_not_run_it(llm_folder, siglip_folder, tmp_path, monkeypatch):
    monkeypatch.setenv('HF_MODULES_CACHE', str(tmp_path / 'modules'))
    folder = tmp_path / 'llm'
    shutil.copytree(llm_folder, folder)
    marker = tmp_path / 'ran'
    (folder / 'evil.py').write_text(f'open({str(marker)!r}, "w").close()\n')
    config = json.loads((folder / 'config.json').read_text())
    code = dict.fromkeys(('AutoConfig', 'AutoModelForCausalLM', 'AutoTokenizer'), 'evil.Evil')
    for model_type in ('llama', 'evil'):
        config |= dict(model_type=model_type, auto_map=code)
        (folder / 'config.json').write_text(json.dumps(config))
        tower = dict(model_name_or_path=str(folder), mm_vision_tower=siglip_folder)
        if model_type == 'evil':
            with pytest.raises(ValueError, match='no configuration that transformers knows'):
                load_pretrained_model(tower)
        else:
            load_pretrained_model(tower)
    assert not marker.exists()


def test_an_original_checkpoint_without_words_is_told_which(llava_folder, tmp_path):
    shutil.copytree(llava_folder, tmp_path / 'old')
    (tmp_path / 'old' / 'config.json').write_text('{"model_type": "llava_qwen"}')
    with pytest.raises(ValueError, match='old: mm_vision_tower: expected text, found'):
        load_pretrained_model(tmp_path / 'old')


def test_towers_and_projectors_of_other_kinds(llava_folder, tmp_path):
    words = dict(model_name_or_path=llava_folder, mm_projector_type='mlp2x_relu')
    with pytest.raises(ValueError, match="expected 'mlp2x_gelu', which .* found 'mlp2x_relu'"):
        load_pretrained_model(words)
    load_pretrained_model(words | dict(mm_projector_type='mlp2x_gelu'))
    shutil.copytree(llava_folder, tmp_path / 'llava')
    config = json.loads((tmp_path / 'llava' / 'config.json').read_text())
    config['vision_config'] = dict(model_type='pixtral')
    (tmp_path / 'llava' / 'config.json').write_text(json.dumps(config))
    with pytest.raises(ValueError, match="a vision tower of model_type .* found 'pixtral'"):
        load_pretrained_model(tmp_path / 'llava')
