import json

import pytest
import torch
from safetensors.torch import save_file
from tiny_guides import GUIDES, tiny_guide
from torch.nn.functional import interpolate
from transformers import ViTModel

from mmseg_siglip.models.guides import DINOGuide, build_guide
from mmseg_siglip.models.guides.vit import READS

SIZE = GUIDES['DINOGuide']


@pytest.fixture(scope='module')
def guide():
    return tiny_guide()


def pixels(*size):
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))


def images(x):
    return (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)


def published(model):
    """A state dict of transformers' in DINO's own layout."""
    state = {name.removeprefix('embeddings.'): x for name, x in model.state_dict().items()}
    state['pos_embed'] = state.pop('position_embeddings')
    for kind in ('weight', 'bias'):
        state[f'patch_embed.proj.{kind}'] = state.pop(f'patch_embeddings.projection.{kind}')
        state[f'norm.{kind}'] = state.pop(f'layernorm.{kind}')
        for i in range(SIZE['num_hidden_layers']):
            old, new = f'layers.{i}', f'blocks.{i}'
            qkv = [state.pop(f'{old}.attention.{part}_proj.{kind}') for part in 'qkv']
            state[f'{new}.attn.qkv.{kind}'] = torch.cat(qkv)
            state[f'{new}.attn.proj.{kind}'] = state.pop(f'{old}.attention.o_proj.{kind}')
            state[f'{new}.norm1.{kind}'] = state.pop(f'{old}.layernorm_before.{kind}')
            state[f'{new}.norm2.{kind}'] = state.pop(f'{old}.layernorm_after.{kind}')
            for part in ('fc1', 'fc2'):
                state[f'{new}.mlp.{part}.{kind}'] = state.pop(f'{old}.mlp.{part}.{kind}')
    return state


@torch.no_grad()
def test_tokens_are_those_of_transformers(guide):
    x = pixels(32, 32)
    found = guide(x)
    assert found.shape == (2, guide.channels, 4, 4)
    wanted = guide.model(images(x)).last_hidden_state[:, 1:]
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), wanted)


@torch.no_grad()
@pytest.mark.parametrize('site', READS[1:])
def test_projections_are_what_hooks_see(guide, site):
    x, seen = pixels(32, 32), {}
    attention = guide.model.layers[-1].attention
    hooks = [
        getattr(attention, f'{name}_proj').register_forward_hook(
            lambda module, args, out, name=name: seen.update({name: out[:, 1:]})
        )
        for name in 'qkv'
    ]
    guide.model(images(x))
    for hook in hooks:
        hook.remove()
    wanted = sum(seen[name] for name in site.split('+'))
    found = tiny_guide(site=site)(x)
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), wanted)


@torch.no_grad()
def test_positions_off_the_native_grid_follow_dino(guide):
    """By a scale of (n + 0.1) / native, not to a size."""
    x, twin = pixels(32, 56), tiny_guide().model
    own = twin.embeddings.position_embeddings
    plane = own[:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    scaled = interpolate(plane, scale_factor=(4.1 / 4, 7.1 / 4), mode='bicubic')
    assert scaled.shape[-2:] == (4, 7)
    moved = torch.cat([own[:, :1], scaled.flatten(2).transpose(1, 2)], dim=1)
    twin.embeddings.interpolate_pos_encoding = lambda *_: moved
    wanted = twin(images(x), interpolate_pos_encoding=True).last_hidden_state[:, 1:]
    found = guide(x).flatten(2).transpose(1, 2)
    torch.testing.assert_close(found, wanted)
    usual = guide.model(images(x), interpolate_pos_encoding=True).last_hidden_state[:, 1:]
    assert (found - usual).abs().max() > 1e-2


def test_a_picture_of_parts_of_patches_is_enlarged(guide):
    x = pixels(30, 41)
    larger = interpolate(x, size=(32, 48), mode='bilinear')
    torch.testing.assert_close(guide(x), guide(larger))
    assert guide(pixels(3, 5)).shape == (2, guide.channels, 1, 1)


def test_each_is_seen_alone_and_a_constant_is_finite(guide):
    x = pixels(24, 40)
    torch.testing.assert_close(guide(x)[1:], guide(x[1:]), atol=1e-5, rtol=1e-4)
    assert guide(torch.zeros_like(x)).isfinite().all()
    with torch.inference_mode():
        guide(x)
    assert not guide(x).requires_grad


def test_every_layout_is_the_same(guide, tmp_path):
    x, model = pixels(24, 40), guide.model
    wanted, state = guide(x), published(model)
    torch.save(state, tmp_path / 'dino.pth')
    heads = dict(num_attention_heads=2)
    found = DINOGuide(str(tmp_path / 'dino.pth'), config=heads)
    torch.testing.assert_close(found(x), wanted)

    folder = tmp_path / 'transformers'
    model.save_pretrained(folder)
    config = json.loads((folder / 'config.json').read_text())
    config['layer_norm_eps'] = 1e-12
    (folder / 'config.json').write_text(json.dumps(config))
    torch.testing.assert_close(
        build_guide(dict(type='DINOGuide', pretrained=str(folder)))(x), wanted
    )
    bare = DINOGuide(str(folder / 'model.safetensors'))
    torch.testing.assert_close(bare(x), wanted)

    timm = tmp_path / 'timm'
    timm.mkdir()
    (timm / 'config.json').write_text(json.dumps(dict(architecture='vit_tiny')))
    save_file({name: x.contiguous() for name, x in state.items()}, timm / 'model.safetensors')
    torch.testing.assert_close(DINOGuide(str(timm), config=heads)(x), wanted)


def test_its_epsilon_is_dinos(guide):
    assert guide.model.layernorm.eps == guide.model.layers[0].layernorm_before.eps == 1e-6


def test_what_does_not_fit_is_refused(guide, tmp_path):
    state = published(guide.model)
    for change, message in (
        (dict(extra=torch.ones(2)), '1 are unknown, first extra'),
        ({'norm.weight': None}, '1 are missing, first layernorm.weight'),
    ):
        broken = {k: v for k, v in (state | change).items() if v is not None}
        torch.save(broken, tmp_path / 'broken.pth')
        with pytest.raises(ValueError, match=message):
            DINOGuide(str(tmp_path / 'broken.pth'), config=dict(num_attention_heads=2))
    with pytest.raises(ValueError, match='expected pretrained or config'):
        DINOGuide()
    with pytest.raises(ValueError, match="unknown site 'keys' of a guide"):
        DINOGuide(config=SIZE, site='keys')
    with pytest.raises(ValueError, match="expected model_type vit, found 'siglip'"):
        DINOGuide(config=dict(model_type='siglip'))
    with pytest.raises(ValueError, match='no such file or folder'):
        DINOGuide(str(tmp_path / 'none.pth'))


def test_the_class_is_transformers_own(guide):
    assert type(guide.model) is ViTModel and guide.model.pooler is None
