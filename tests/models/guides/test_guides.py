import json
import re

import pytest
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from tiny_guides import GUIDES, tiny_guide
from tiny_sams import SAM2_CONFIG, SAM_CONFIG
from torch.nn.functional import interpolate

from mmseg_siglip.models.backbones.dinov3 import DINOv3Block, PatchAngles
from mmseg_siglip.models.guides import DINOv2Guide, DINOv3Guide, MAEGuide, SAMGuide, build_guide
from mmseg_siglip.models.guides.vit import READS, normalised

VITS = ('DINOv2Guide', 'DINOv3Guide', 'MAEGuide')


def pixels(*size, count=2):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0))


def rows(found):
    return found.flatten(2).transpose(1, 2)


@torch.no_grad()
@pytest.mark.parametrize('name', GUIDES)
def test_what_every_guide_keeps_to(name):
    guide = tiny_guide(name)
    for size in ((32, 32), (24, 40), (33, 47), (5, 3)):
        x = pixels(*size)
        found = guide(x)
        assert found.shape[:2] == (2, guide.channels) and found.isfinite().all()
        torch.testing.assert_close(guide(x[1:]), found[1:], atol=1e-4, rtol=1e-4)
    with torch.inference_mode():
        guide(x)
    with torch.enable_grad():
        assert not guide(x).requires_grad
    assert guide(torch.zeros(1, 3, 16, 16)).isfinite().all()
    assert not list(guide.parameters()) and not guide.state_dict()


@torch.no_grad()
@pytest.mark.parametrize(('name', 'size'), [*((n, (32, 32)) for n in VITS), (VITS[1], (24, 40))])
def test_tokens_are_those_of_transformers(name, size):
    guide, x = tiny_guide(name), pixels(*size)
    options = {}
    if guide.model.config.model_type == 'vit_mae':
        options = dict(noise=torch.arange(16.0).expand(2, -1))  # nothing is shuffled
        guide.model.config.mask_ratio = 0.0
    wanted = guide.model(normalised(x), **options).last_hidden_state
    prefix = wanted.shape[1] - guide(x)[0, 0].numel()
    assert prefix == guide.trunk.num_prefix
    torch.testing.assert_close(rows(guide(x)), wanted[:, prefix:], atol=1e-5, rtol=1e-4)


def test_mae_of_transformers_is_the_same_as_a_plain_vit():
    config = GUIDES['MAEGuide']
    plain, own = tiny_guide('MAEGuide'), MAEGuide(config=config | dict(model_type='vit_mae'))
    own.model.load_state_dict(plain.model.state_dict(), strict=False)
    own.model.config.mask_ratio = 0.0
    x, noise = pixels(32, 32), torch.arange(16.0).expand(2, -1)
    torch.testing.assert_close(own(x), plain(x))
    with torch.no_grad():
        wanted = own.model(normalised(x), noise=noise).last_hidden_state[:, 1:]
    torch.testing.assert_close(rows(own(x)), wanted, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize('registers', [True, False])
def test_positions_of_dinov2_off_the_native_grid(registers):
    """With registers as transformers has them; without, by DINO's scale of (n + 0.1) / native."""
    fields = {k: v for k, v in GUIDES['DINOv2Guide'].items() if k != 'num_register_tokens'}
    guide = tiny_guide('DINOv2Guide')
    if not registers:
        guide = DINOv2Guide(config=fields | dict(model_type='dinov2'))
    x, model = pixels(24, 40), guide.model
    found = guide(x)
    if not registers:
        own = model.embeddings.position_embeddings.data.normal_(
            generator=torch.Generator().manual_seed(1)
        )
        plane = own[:, 1:].reshape(1, 8, 8, -1).permute(0, 3, 1, 2)
        scaled = interpolate(plane, scale_factor=(6.1 / 8, 10.1 / 8), mode='bicubic')
        wanted = torch.cat([own[:, :1], scaled.flatten(2).transpose(1, 2)], dim=1)
        found = guide(x)
        model.embeddings.interpolate_pos_encoding = lambda *_: wanted
    wanted = model(normalised(x)).last_hidden_state[:, guide.trunk.num_prefix :]
    torch.testing.assert_close(rows(found), wanted, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize('name', VITS)
def test_projections_are_of_the_last_normed_input(name):
    x, guide = pixels(24, 40), tiny_guide(name)
    found = {site: tiny_guide(name, site)(x) for site in READS}
    torch.testing.assert_close(found['q'] + found['k'], found['q+k'])
    seen = {}
    for module, part in guide.trunk.blocks()[-1].layer.named_modules():
        if module.endswith(('q_proj', 'k_proj', 'v_proj', '.query', '.key', '.value')):
            part.register_forward_hook(
                lambda m, args, out, site=module.split('.')[-1][0]: seen.update({site: out})
            )
    guide(x)
    for site in 'qkv':
        torch.testing.assert_close(rows(found[site]), seen[site][:, guide.trunk.num_prefix :])


def test_turning_keeps_products_of_equal_distances():
    """A rotation by place: what two patches have to do with each other depends on their offset."""
    grid, frequencies = (3, 5), 1 / 100.0 ** torch.arange(0, 1, 4 / 16)
    x = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    block = DINOv3Block(None, PatchAngles(frequencies))
    q, k = (block.turn(token.expand(1, 1, 15, 16), grid)[0, 0] for token in x)
    products = (q @ k.T).reshape(3, 5, 3, 5)
    torch.testing.assert_close(products[0, 0, 1, 2], products[1, 2, 2, 4])
    assert not torch.isclose(products[0, 0, 1, 2], products[0, 0, 0, 0])


def dinov2_published(model, *, registers, no_cls):
    """A state dict of transformers' in the release's layout, or timm's."""
    state = {}
    for name, x in model.state_dict().items():
        name = name.removeprefix('embeddings.').replace('encoder.layer.', 'blocks.')
        name = name.replace('patch_embeddings.projection', 'patch_embed.proj')
        name = name.replace('position_embeddings', 'pos_embed').replace('layernorm', 'norm')
        name = name.replace('layer_scale1.lambda1', 'ls1.gamma')
        name = name.replace('layer_scale2.lambda1', 'ls2.gamma')
        name = name.replace('attention.output.dense', 'attn.proj')
        name = name.replace('register_tokens', registers)
        state[name] = x
    for i in range(3):
        for kind in ('weight', 'bias'):
            parts = [
                state.pop(f'blocks.{i}.attention.attention.{part}.{kind}')
                for part in ('query', 'key', 'value')
            ]
            state[f'blocks.{i}.attn.qkv.{kind}'] = torch.cat(parts)
    if no_cls:
        state['cls_token'] = state['cls_token'] + state['pos_embed'][:, :1]
        state['pos_embed'] = state['pos_embed'][:, 1:]
        del state['mask_token']
    return state


@pytest.mark.parametrize(('registers', 'no_cls'), [('register_tokens', False), ('reg_token', True)])
def test_dinov2_in_its_release_and_in_timm(registers, no_cls, tmp_path):
    guide, x = tiny_guide('DINOv2Guide'), pixels(24, 40)
    torch.save(
        dinov2_published(guide.model, registers=registers, no_cls=no_cls), tmp_path / 'dinov2.pth'
    )
    found = DINOv2Guide(str(tmp_path / 'dinov2.pth'), config=dict(num_attention_heads=2))
    torch.testing.assert_close(found(x), guide(x))
    with pytest.raises(ValueError, match="expected DINOv3's own layout, found .* no rope_embed"):
        DINOv3Guide(str(tmp_path / 'dinov2.pth'))


def test_folders_of_transformers(tmp_path):
    x = pixels(24, 40)
    for name in VITS:
        guide = tiny_guide(name)
        guide.model.save_pretrained(tmp_path / name)
        loaded = build_guide(dict(type=name, pretrained=str(tmp_path / name)))
        torch.testing.assert_close(loaded(x), guide(x))
    with pytest.raises(ValueError, match='expected model_type dinov3_vit, found'):
        DINOv3Guide(str(tmp_path / 'MAEGuide'))


OLD = (
    (r'^layers', 'encoder.layer'),
    (r'attention\.q_proj', 'attention.attention.query'),
    (r'attention\.k_proj', 'attention.attention.key'),
    (r'attention\.v_proj', 'attention.attention.value'),
    (r'attention\.o_proj', 'attention.output.dense'),
    (r'mlp\.fc1', 'intermediate.dense'),
    (r'mlp\.fc2', 'output.dense'),
)
"""transformers' names as most files on the Hub have them."""


@pytest.mark.parametrize(
    ('name', 'kind', 'prefix'), [('DINOGuide', 'vit', ''), ('MAEGuide', 'vit_mae', 'vit.')]
)
def test_files_of_the_hub_with_older_names(name, kind, prefix, tmp_path):
    guide, x, state = tiny_guide(name), pixels(24, 40), {}
    for key, value in guide.model.state_dict().items():
        for pattern, old in OLD:
            key = re.sub(pattern, old, key)
        state[prefix + key] = value.contiguous()
    if kind == 'vit_mae':
        state['decoder.mask_token'] = torch.zeros(1, 1, 8)
    save_file(state, tmp_path / 'model.safetensors')
    fields = dict(GUIDES[name], model_type=kind, layer_norm_eps=1e-12)
    (tmp_path / 'config.json').write_text(json.dumps(fields))
    for source in (tmp_path, tmp_path / 'model.safetensors'):
        found = build_guide(dict(type=name, pretrained=str(source)))
        assert torch.equal(found(x), guide(x))


@torch.no_grad()
def test_positions_of_mae_are_timms():
    guide, x = tiny_guide('MAEGuide'), pixels(24, 40)
    twin = tiny_guide('MAEGuide').model
    own = twin.embeddings.position_embeddings
    moved = resample_abs_pos_embed(own, new_size=[3, 5], num_prefix_tokens=1)
    twin.embeddings.interpolate_pos_encoding = lambda *_: moved
    wanted = twin(normalised(x), interpolate_pos_encoding=True).last_hidden_state[:, 1:]
    torch.testing.assert_close(rows(guide(x)), wanted, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_sam_is_seen_through_its_neck(original_sam, original_sam_file):
    guide = SAMGuide(original_sam_file)
    x = pixels(40, 64)
    squashed = interpolate(x, size=(64, 64), mode='bilinear', antialias=True)
    wanted = original_sam.image_encoder(normalised(squashed))
    assert guide(x).shape == (2, 32, 8, 8)
    torch.testing.assert_close(guide(x), wanted, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize('size', [(64, 64), (40, 64), (100, 30), (2, 64)])
def test_sams_last_attention_is_that_of_transformers(size):
    guide, (x,) = tiny_guide('SAMGuide'), pixels(*size, count=1)
    last = guide.attention(x)
    scale = 64 / max(size)
    filled = [max(1, int(side * scale + 0.5)) for side in size]
    rows, columns = (max(1, side // 8) for side in filled)
    assert last.grid == (rows, columns)
    canvas = torch.zeros(1, 3, 64, 64)
    small = interpolate(normalised(x)[None], size=filled, mode='bilinear', antialias=True)
    canvas[..., : filled[0], : filled[1]] = small
    seen = {}
    block = guide.model.layers[-1].attn
    block.qkv.register_forward_hook(lambda m, args, out: seen.update(qkv=out))
    guide.model(canvas)
    q, k, v = seen['qkv'].reshape(64, 3, 2, 16).permute(1, 2, 0, 3)
    bias = block.get_decomposed_rel_pos(q, block.rel_pos_h, block.rel_pos_w, (8, 8), (8, 8))
    weights = (q * block.scale @ k.transpose(1, 2) + bias.reshape(2, 64, 64)).softmax(-1)
    own = (torch.arange(rows)[:, None] * 8 + torch.arange(columns)).flatten()
    wanted = weights[:, own][:, :, own]
    torch.testing.assert_close(last.rows(0, rows * columns), wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(last.rows(1, 3), wanted[:, 1:3], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(last.values, v[:, own], atol=1e-4, rtol=1e-4)


def test_a_sam_that_cannot_serve_is_refused():
    with pytest.raises(ValueError, match='expected a SAM of kind sam, found sam2'):
        SAMGuide(config=SAM2_CONFIG)
    guide = SAMGuide(config=SAM_CONFIG)
    with pytest.raises(ValueError, match='attends over the whole picture, found windows of 3'):
        guide.attention(torch.rand(3, 32, 32))
