"""The converter, on a synthetic checkpoint of the published base model's sizes."""

from __future__ import annotations

import open_clip
import pytest
import torch
from cat_seg_oracle import PlainAggregator

from mmseg_siglip.cli.main import main
from mmseg_siglip.weights.checkpoint import is_mmengine_checkpoint, load_checkpoint_file


def convert(*arguments: object) -> int:
    return main(['convert', 'cat-seg', *map(str, arguments)])


@pytest.mark.slow
def test_base_model_fits_its_config(repository, tmp_path, capsys):
    clip = open_clip.CLIP(**open_clip.get_model_config('ViT-B-16'))
    prefix = 'sem_seg_head.predictor.'
    state = {f'{prefix}transformer.{k}': v for k, v in PlainAggregator(512).state_dict().items()}
    for i, up in enumerate(
        (torch.nn.ConvTranspose2d(768, 256, 2, 2), torch.nn.ConvTranspose2d(768, 128, 4, 4)), 1
    ):
        state |= {f'upsample{i}.{name}': value for name, value in up.state_dict().items()}
    for name, value in clip.state_dict().items():
        if name.endswith('attn.in_proj_weight'):
            for which, part in zip('qkv', value.chunk(3), strict=True):
                split = name.replace('in_proj_weight', f'{which}_proj_weight')
                state[f'{prefix}clip_model.{split}'] = part.clone()
        else:
            state[f'{prefix}clip_model.{name}'] = value
    torch.save(dict(model=state, iteration=79999), tmp_path / 'model_base.pth')
    config = repository / 'configs/cat_seg/ade150.py'
    out = tmp_path / 'converted.pth'
    assert convert(str(tmp_path / 'model_base.pth'), str(out), '--config', str(config)) == 0
    assert 'tensors in' in capsys.readouterr().out
    assert is_mmengine_checkpoint(load_checkpoint_file(out))

    state.pop('upsample1.bias')
    torch.save(dict(model=state), tmp_path / 'model_base.pth')
    assert convert(str(tmp_path / 'model_base.pth'), str(out), '--config', str(config)) == 1
    assert '1 (first decode_head.upsample1.bias) missing' in capsys.readouterr().err


def test_another_checkpoint_is_refused(tmp_path, capsys):
    torch.save(dict(model={'fc.weight': torch.ones(2)}), tmp_path / 'other.pth')
    assert convert(str(tmp_path / 'other.pth'), str(tmp_path / 'out.pth')) == 1
    error = capsys.readouterr().err
    assert error.startswith('error: expected a CAT-Seg checkpoint of 2024')
    assert not (tmp_path / 'out.pth').exists()
