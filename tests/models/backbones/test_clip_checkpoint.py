import json

import open_clip
import pytest
import torch
from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from safetensors.torch import save_file

from mmseg_siglip.models.backbones import clip_checkpoint
from mmseg_siglip.models.backbones.clip import CLIPBackbone
from mmseg_siglip.models.backbones.clip_checkpoint import (
    fitting_names,
    openai_config,
    read_clip_checkpoint,
    shape_of,
)
from mmseg_siglip.weights.source import split_name


@pytest.mark.parametrize(
    ('source', 'expected'),
    [
        ('ViT-B-16:openai', ('ViT-B-16', 'openai')),
        ('ViT-B/16', ('ViT-B-16', 'openai')),
        ('ViT-L/14@336px', ('ViT-L-14-336', 'openai')),
        ('laion/CLIP-ViT-H-14', ('laion/CLIP-ViT-H-14', None)),
        ('hf-hub:laion/x', ('hf-hub:laion/x', None)),
    ],
)
def test_names(source, expected):
    assert split_name(source) == expected


@pytest.mark.parametrize(
    ('name', 'tag', 'quick'),
    [
        ('ViT-B-16', 'openai', True),
        ('ViT-L-14-336', 'openai', True),
        ('ViT-B-32', 'laion2b_s34b_b79k', False),
        ('ViT-H-14', 'laion2b_s32b_b79k', False),
        ('ViT-B-16', 'dfn2b', True),
        ('ViT-B-16', 'metaclip_400m', True),
    ],
)
def test_activation_follows_the_origin_of_the_weights(monkeypatch, name, tag, quick):
    monkeypatch.setattr(clip_checkpoint, 'download_pretrained', lambda config: 'file')
    monkeypatch.setattr(clip_checkpoint, 'read_state_dict', lambda path: {})
    checkpoint = read_clip_checkpoint(f'{name}:{tag}', None)
    assert checkpoint.config['quick_gelu'] is quick
    assert checkpoint.config['vision_cfg'] == open_clip.get_model_config(name)['vision_cfg']


@pytest.mark.parametrize('name', ['ViT-B-32', 'ViT-B-16', 'ViT-L-14', 'ViT-L-14-336'])
def test_architecture_from_the_shapes_of_openais_weights(name):
    config = open_clip.get_model_config(name)
    with torch.device('meta'):
        state = open_clip.CLIP(**config).state_dict()
    found = openai_config(state)
    assert found['quick_gelu'] is True
    for tower in ('vision_cfg', 'text_cfg'):
        assert config[tower].items() <= found[tower].items()
    assert {name, f'{name}-quickgelu'} & set(fitting_names(state))


def test_heads_of_h14_are_not_guessed():
    config = open_clip.get_model_config('ViT-H-14')
    with torch.device('meta'):
        state = open_clip.CLIP(**config).state_dict()
    assert (
        'head_width' in config['vision_cfg'] and 'head_width' not in shape_of(state)['vision_cfg']
    )
    assert 'ViT-H-14' in fitting_names(state)


def test_openai_file(openai_file, tiny_clip):
    checkpoint = read_clip_checkpoint(openai_file, None)
    assert checkpoint.config['quick_gelu'] is True
    assert checkpoint.state.keys() == tiny_clip.state_dict().keys()


def test_torchscript_archive_as_openai_publishes_it(tiny_clip, tmp_path):
    """OpenAI's files are TorchScript: half-precision weights and three integers."""

    class Published(torch.nn.Module):
        def __init__(self, clip):
            super().__init__()
            self.visual, self.transformer = clip.visual, clip.transformer
            self.token_embedding, self.ln_final = clip.token_embedding, clip.ln_final
            self.positional_embedding = clip.positional_embedding
            self.text_projection, self.logit_scale = clip.text_projection, clip.logit_scale
            marks = dict(input_resolution=32, context_length=77, vocab_size=49408)
            for name, value in marks.items():
                self.register_buffer(name, torch.tensor(value))

        def forward(self, images):
            return self.visual(images)

    published = Published(tiny_clip)
    torch.jit.trace(published, torch.randn(1, 3, 32, 32)).save(tmp_path / 'ViT-tiny.pt')
    backbone = CLIPBackbone(str(tmp_path / 'ViT-tiny.pt'))
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(backbone.encode_image(images), tiny_clip.encode_image(images))


@pytest.mark.parametrize('weights', [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME])
def test_open_clip_folder(tiny_clip, clip_config, tmp_path, weights):
    pixels = dict(mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.1])
    config = dict(model_cfg=dict(clip_config, quick_gelu=False), preprocess_cfg=pixels)
    (tmp_path / HF_CONFIG_NAME).write_text(json.dumps(config))
    save = save_file if weights.endswith('safetensors') else torch.save
    save(tiny_clip.state_dict(), tmp_path / weights)
    for source in (tmp_path, tmp_path / weights):
        backbone = CLIPBackbone(str(source))
        assert backbone.mean == pytest.approx((127.5, 102, 76.5))
        gelu = backbone.model.visual.transformer.resblocks[0].mlp.gelu
        assert type(gelu) is torch.nn.GELU


def test_open_clip_folder_without_weights(tmp_path):
    (tmp_path / HF_CONFIG_NAME).write_text('{}')
    with pytest.raises(ValueError, match='beside open_clip_config.json, found neither'):
        read_clip_checkpoint(str(tmp_path), None)


def test_bare_file_needs_its_architecture(tiny_clip, clip_config, tmp_path):
    path = tmp_path / 'epoch_1.pt'
    torch.save(dict(state_dict=tiny_clip.state_dict()), path)
    with pytest.raises(ValueError, match=r'neither the activation .* expected arch'):
        CLIPBackbone(str(path))
    assert CLIPBackbone(str(path), arch=clip_config).image_size == (32, 32)


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('nowhere/ViT.pt', 'no such file or folder'),
        ('ViT-B-16:nothing', 'expected one of the weights openai, .* found .nothing.'),
        ('ViT-Z-9:openai', "unknown CLIP architecture 'ViT-Z-9'"),
        ('some/model', 'no CLIP checkpoint loads from there'),
    ],
)
def test_nothing_there(source, message):
    with pytest.raises(ValueError, match=message):
        read_clip_checkpoint(source, None)


def test_weights_of_something_else(tmp_path):
    torch.save({'layer.weight': torch.ones(2)}, tmp_path / 'x.pt')
    with pytest.raises(ValueError, match='expected CLIP weights with a ViT .* found layer.weight'):
        read_clip_checkpoint(str(tmp_path / 'x.pt'), None)


def test_missing_weights(tiny_clip, openai_file, tmp_path):
    state = torch.load(openai_file, weights_only=True)
    state.pop('visual.ln_post.bias')
    torch.save(state, tmp_path / 'x.pt')
    with pytest.raises(ValueError, match=r'1 \(first visual.ln_post.bias\) missing'):
        CLIPBackbone(str(tmp_path / 'x.pt'))
