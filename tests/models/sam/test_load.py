import json

import pytest
import torch
from tiny_sams import disturb
from transformers import Sam2Model, Sam2VideoConfig, Sam2VideoModel
from transformers.models.sam2_video.configuration_sam2_video import (
    Sam2VideoMaskDecoderConfig,
    Sam2VideoPromptEncoderConfig,
)

from mmseg_siglip.models.sam import SAMAdapter


@pytest.fixture(scope='module')
def folder(sam_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp('sam')
    disturb(SAMAdapter(config=sam_config).model).save_pretrained(folder)
    return folder


def same(one, other):
    return all(
        torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items()
    )


def test_folder_and_bare_file_and_config(folder, sam_config, tmp_path):
    adapter = SAMAdapter(str(folder))
    assert adapter.kind == 'sam'
    assert same(adapter, SAMAdapter(str(folder / 'model.safetensors')))
    bare = tmp_path / 'bare.pth'
    torch.save(dict(state_dict=adapter.model.state_dict()), bare)
    assert same(adapter, SAMAdapter(str(bare), config=sam_config))


def test_sam2_as_published_a_video_model(sam2_config, tmp_path):
    memory = 'memory_attention_hidden_size memory_attention_feed_forward_hidden_size'
    memory += ' memory_encoder_hidden_size memory_fuser_embed_dim memory_fuser_intermediate_dim'
    config = Sam2VideoConfig(
        vision_config=sam2_config['vision_config'],
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(**sam2_config['prompt_encoder_config']),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(**sam2_config['mask_decoder_config']),
        **dict.fromkeys([*memory.split(), 'mask_downsampler_embed_dim'], 32),
        memory_attention_num_layers=1,
        memory_attention_num_attention_heads=1,
        memory_encoder_output_channels=16,
    )
    video = Sam2VideoModel(config)
    video.save_pretrained(tmp_path)
    assert json.loads((tmp_path / 'config.json').read_text())['model_type'] == 'sam2_video'
    adapter = SAMAdapter(str(tmp_path), kind='sam2')
    assert isinstance(adapter.model, Sam2Model) and same(adapter.model, video)


def test_refusals(folder, sam_config, tmp_path):
    with pytest.raises(ValueError, match='expected checkpoint or config'):
        SAMAdapter()
    with pytest.raises(ValueError, match='unknown kind'):
        SAMAdapter(str(folder), kind='sam3')
    with pytest.raises(ValueError, match='expected a model of kind sam2, found sam'):
        SAMAdapter(str(folder), kind='sam2')
    with pytest.raises(ValueError, match='drop config'):
        SAMAdapter(str(folder), config=sam_config)
    with pytest.raises(ValueError, match='no such file or folder'):
        SAMAdapter(str(tmp_path / 'nowhere' / 'sam.pth'))
    with pytest.raises(ValueError, match='expected model_type sam or sam2, found None'):
        SAMAdapter(str(tmp_path))
    with pytest.raises(ValueError, match='expected model_type sam or sam2'):
        SAMAdapter(config=dict(model_type='siglip'))
    torch.save(dict(weight=torch.zeros(2)), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='expected weights of SAM'):
        SAMAdapter(str(tmp_path / 'other.pth'))


def test_a_pickle_with_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return print, ('ran',)

    torch.save(dict(trap=Trap()), tmp_path / 'sam.pth')
    with pytest.raises(ValueError, match='refused'):
        SAMAdapter(str(tmp_path / 'sam.pth'))
