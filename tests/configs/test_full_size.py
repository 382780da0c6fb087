"""Full-size architectures, random weights, publishers' formats, through ``tools/test.py``."""

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from commands import command
from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel

main = command('test')

CONFIGS = Path(__file__).parents[2] / 'configs' / 'sclip'
TOKENS = 256000
SIZES = {
    'siglip2-base-patch16-224': dict(
        text=dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12),
        vision=dict(image_size=224, patch_size=16),
        heads=12,
    ),
    'siglip2-so400m-patch14-384': dict(
        text=dict(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27),
        vision=dict(image_size=384, patch_size=14),
        heads=16,
    ),
}


def randomly(model):
    """Weights for a model built on the meta device, in half precision as published."""
    torch.manual_seed(0)
    model = model.half().to_empty(device='cpu')
    for parameter in model.parameters():
        parameter.data.normal_(std=0.02)
    return {name: value.contiguous() for name, value in model.state_dict().items()}


def clip_state(name):
    with torch.device('meta'):
        return randomly(open_clip.CLIP(**open_clip.get_model_config(name)))


def write_openai(name, folder, _):
    marks = dict(input_resolution=224, context_length=77, vocab_size=49408)
    state = clip_state(name) | {mark: torch.tensor(value) for mark, value in marks.items()}
    torch.save(state, folder / f'{name}.pt')
    return folder / f'{name}.pt'


def write_open_clip(name, folder, _):
    save_file(clip_state(name), folder / HF_SAFE_WEIGHTS_NAME)
    config = dict(model_cfg=open_clip.get_model_config(name))
    (folder / HF_CONFIG_NAME).write_text(json.dumps(config))
    return folder


def write_transformers(name, folder, siglip_folder):
    """With the words of a tiny checkpoint, filled up: SigLIP 2's own are not to be had here."""
    size = SIZES[name]
    tower = dict(size['text'], num_attention_heads=size['heads'])
    text = dict(tower, vocab_size=TOKENS, max_position_embeddings=64)
    text |= dict(projection_size=tower['hidden_size'], bos_token_id=2, eos_token_id=1)
    config = AutoConfig.for_model(
        'siglip', text_config=text, vision_config=tower | size['vision'], dtype='float16'
    )
    with torch.device('meta'):
        model = AutoModel.from_config(config)
    state = randomly(model)
    save_file(state, folder / 'model.safetensors', metadata=dict(format='pt'))
    config.save_pretrained(folder)
    for name in ('tokenizer_config.json', 'preprocessor_config.json'):
        shutil.copy(Path(siglip_folder) / name, folder)
    tokenizer = json.loads(Path(siglip_folder, 'tokenizer.json').read_text())
    words = tokenizer['model']['vocab']
    words |= {f'<unused{index}>': index for index in range(len(words), TOKENS)}
    (folder / 'tokenizer.json').write_text(json.dumps(tokenizer))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ('config', 'name', 'write', 'crop'),
    [
        ('voc20', 'ViT-B-16', write_openai, 224),
        ('voc20', 'ViT-L-14', write_openai, 224),
        ('voc20', 'ViT-B-16', write_open_clip, 224),
        ('voc20_siglip2', 'siglip2-base-patch16-224', write_transformers, 224),
        ('voc20_siglip2', 'siglip2-so400m-patch14-384', write_transformers, 384),
    ],
    ids=['openai-b16', 'openai-l14', 'open_clip-b16', 'siglip2-b16', 'siglip2-so400m'],
)
def test_published_format(tmp_path, laid_out, siglip_folder, config, name, write, crop):
    checkpoint = write(name, tmp_path, siglip_folder)
    options = [
        f'test_dataloader.dataset.data_root={laid_out("voc20")}',
        'test_dataloader.dataset.indices=1',
        'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False',
        'model.templates=plain',
        'model.precision=auto',
        f'model.test_cfg.crop_size=({crop},{crop})',
        f'model.test_cfg.stride=({crop // 2},{crop // 2})',
    ]
    arguments = [str(CONFIGS / f'{config}.py'), str(checkpoint), '--work-dir', str(tmp_path)]
    assert main([*arguments, '--cfg-options', *options]) == 0
    (results,) = tmp_path.glob('*/*.json')
    assert 0 <= json.loads(results.read_text())['aAcc'] <= 100
