"""Projectors under every name that checkpoints have for them."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import LlavaConfig, SiglipVisionConfig
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from mmseg_siglip.vlm.adapters import load_projector

OTHER = {'model.layers.0.mlp.up_proj.weight': torch.ones(2, 2)}


@pytest.fixture
def theirs():
    """What LLaVA's ``mlp2x_gelu`` is: 6 channels of the encoder, 4 of the language model."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 4))


@pytest.fixture
def ours():
    vision = SiglipVisionConfig(hidden_size=6, num_attention_heads=2)
    text = dict(model_type='llama', hidden_size=4, num_attention_heads=2, pad_token_id=None)
    return LlavaMultiModalProjector(LlavaConfig(vision_config=vision, text_config=text))


def renamed(module, prefix):
    return {f'{prefix}{name}': value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize(
    'prefix',
    [
        'mm_projector.',
        'model.mm_projector.',
        'base_model.model.model.mm_projector.',
        'model.mm_projector.image_spatial_proj.',
    ],
)
@pytest.mark.parametrize('form', ['bin', 'safetensors', 'folder'])
def test_the_same_numbers_come_out(ours, theirs, tmp_path, prefix, form):
    state = renamed(theirs, prefix)
    state['model.mm_projector.video_patch_proj.0.weight'] = torch.ones(3)
    if form == 'bin':
        path = tmp_path / 'mm_projector.bin'
        torch.save(state, path)
    elif form == 'safetensors':
        path = tmp_path / 'part.safetensors'
        save_file(state, path)
    else:
        path = tmp_path
        torch.save(state, tmp_path / 'non_lora_trainables.bin')
    load_projector(ours, path)
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=1e-6)


def test_names_of_transformers(ours, tmp_path):
    state = {name: torch.randn_like(value) for name, value in ours.state_dict().items()}
    torch.save({f'model.multi_modal_projector.{n}': v for n, v in state.items()}, tmp_path / 'a.pt')
    load_projector(ours, tmp_path / 'a.pt')
    assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())


def test_bad_input(ours, theirs, tmp_path):
    def saved(state):
        torch.save(state, tmp_path / 'x.bin')
        return tmp_path / 'x.bin'

    with pytest.raises(ValueError, match='expected a projector .* found none'):
        load_projector(ours, saved(OTHER))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='expected a projector .* found none'):
        load_projector(ours, tmp_path / 'empty')
    deep = nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4))
    with pytest.raises(ValueError, match=r'a projector of 2 layers, found one of 3 layers'):
        load_projector(ours, saved(renamed(deep, 'mm_projector.')))
    with pytest.raises(ValueError, match='a projector of 2 layers, found one of 1 layer; see mm_'):
        load_projector(ours, saved(renamed(nn.Linear(6, 4), 'model.mm_projector.')))
    with pytest.raises(ValueError, match=r'projector of linear layers .* found 1\.weight'):
        load_projector(ours, saved({'mm_projector.1.weight': torch.ones(4)}))
    wide = nn.Sequential(nn.Linear(7, 4), nn.GELU(), nn.Linear(4, 4))
    with pytest.raises(ValueError, match=r'expected shape \(4, 6\) .* found \(4, 7\)'):
        load_projector(ours, saved(renamed(wide, 'mm_projector.')))
    with pytest.raises(ValueError, match='refused: to read it would run code'):
        load_projector(ours, saved({'mm_projector.0.weight': print}))
    twice = renamed(theirs, 'mm_projector.') | renamed(theirs, 'base_model.model.mm_projector.')
    with pytest.raises(
        ValueError, match=r'expected one projector, found mm_projector\.0\.weight and'
    ):
        load_projector(ours, saved(twice))
    nan = renamed(theirs, 'mm_projector.')
    nan['mm_projector.2.bias'][1] = float('nan')
    with pytest.raises(ValueError, match=r'x\.bin: expected finite weights, found 1 of 4 in '):
        load_projector(ours, saved(nan))


def test_a_whole_checkpoint_is_no_projector(ours, theirs, tmp_path):
    """Its tuned language model and tower would be left out."""
    state = renamed(theirs, 'model.mm_projector.')
    save_file(state | OTHER, tmp_path / 'whole.safetensors')
    with pytest.raises(ValueError, match=r'found 1 other weights \(first layers\.0\.mlp'):
        load_projector(ours, tmp_path / 'whole.safetensors')
    torch.save(state, tmp_path / 'mm_projector.bin')
    load_projector(ours, tmp_path)
    for name in ('model.safetensors.index.json', 'pytorch_model.bin', 'adapter_config.json'):
        (tmp_path / name).write_text('{}')
        with pytest.raises(ValueError, match=f'found {name} of a whole checkpoint.*left out'):
            load_projector(ours, tmp_path)
        (tmp_path / name).unlink()


@pytest.mark.parametrize('name', ['mm_projector.bin', 'mm_projector.safetensors'])
def test_a_damaged_file_is_one_sentence(ours, theirs, tmp_path, name):
    path = tmp_path / name
    state = renamed(theirs, 'model.mm_projector.')
    torch.save(state, path) if path.suffix == '.bin' else save_file(state, path)
    whole = path.read_bytes()
    for end in (0, 1, 7, 8, 9, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=str(path)) as caught:
            load_projector(ours, tmp_path)
        assert '\n' not in str(caught.value)
