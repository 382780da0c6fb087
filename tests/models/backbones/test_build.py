import json
import shutil

import pytest
import torch
from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, PretrainedConfig

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone, build_encoder
from mmseg_siglip.models.backbones.build import find_encoder_type


@pytest.fixture
def clip_folder(tmp_path):
    small = dict(hidden_size=64, intermediate_size=64, num_attention_heads=2, num_hidden_layers=2)
    vision = dict(small, image_size=32, patch_size=8)
    CLIPModel(CLIPConfig(text_config=small, vision_config=vision)).save_pretrained(tmp_path)
    return str(tmp_path)


def test_by_contents_not_by_name(openai_file, siglip_folder, naflex_folder, clip_folder, tmp_path):
    renamed = tmp_path / 'siglip2-so400m.pt'
    shutil.copy(openai_file, renamed)
    assert isinstance(build_encoder(str(renamed)), CLIPBackbone)
    disguised = tmp_path / 'openai-clip-vit'
    shutil.copytree(siglip_folder, disguised)
    assert isinstance(build_encoder(str(disguised)), SigLIPBackbone)
    assert isinstance(build_encoder(f'{disguised}/model.safetensors'), SigLIPBackbone)
    assert build_encoder(naflex_folder).naflex
    assert isinstance(build_encoder(clip_folder), CLIPBackbone)


def test_open_clip_folder(tiny_clip, clip_config, tmp_path):
    (tmp_path / HF_CONFIG_NAME).write_text(json.dumps(dict(model_cfg=clip_config)))
    save_file(tiny_clip.state_dict(), tmp_path / HF_SAFE_WEIGHTS_NAME)
    assert isinstance(build_encoder(str(tmp_path)), CLIPBackbone)


def test_open_clip_names():
    assert find_encoder_type('ViT-B-16:openai') == find_encoder_type('ViT-B/16') == 'CLIPBackbone'


def test_options_reach_the_backbone(siglip_folder):
    encoder = build_encoder(siglip_folder, out_indices=(0, 2), readout='value')
    assert encoder.out_indices == (0, 2) and encoder.readout == 'value'


def test_refusals_list_what_was_looked_for(tmp_path):
    torch.save({'fc.weight': torch.ones(1)}, tmp_path / 'other.pt')
    (tmp_path / 'bert').mkdir()
    (tmp_path / 'bert' / 'config.json').write_text('{"model_type": "bert"}')
    for source, found in [
        (tmp_path, 'no encoder found'),
        (tmp_path / 'other.pt', 'no encoder found among its 1 tensors .first fc.weight.'),
        (tmp_path / 'bert', "found model_type 'bert'"),
        ('some/model', 'no model of that name can be reached on the Hub'),
    ]:
        with pytest.raises(ValueError, match=f'{found}.*looked for config.json of transformers'):
            build_encoder(str(source))
    with pytest.raises(ValueError, match='no such file or folder'):
        build_encoder(str(tmp_path / 'absent.pt'))


def test_a_commit_of_the_hub_is_asked_for_from_the_first_look_on(monkeypatch):
    asked = []

    def get_config_dict(name, **options):
        asked.append(options.get('revision'))
        raise OSError('no network')

    monkeypatch.setattr(PretrainedConfig, 'get_config_dict', get_config_dict)
    with pytest.raises(ValueError, match='no model of that name can be reached'):
        build_encoder('some/model', revision='abc123')
    assert asked == ['abc123']
