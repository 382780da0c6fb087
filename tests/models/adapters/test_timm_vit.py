"""The layout that timm and the releases share, against timm's own models."""

import pytest
import timm
import torch
from torch.testing import assert_close
from transformers import AutoConfig, AutoModel

from mmseg_siglip.models.adapters.timm_vit import (
    MARK,
    dinov2_config,
    to_transformers_vit,
    vit_config,
)

SIZES = dict(img_size=32, patch_size=8, embed_dim=128, depth=2, num_heads=2, num_classes=0)


def timm_model(**options):
    torch.manual_seed(0)
    name = options.pop('name', 'vit_tiny_patch16_224')
    model = timm.create_model(name, **SIZES, **options).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter += 0.05 * torch.randn_like(parameter)
    return model


def in_transformers(state, fields, kind):
    config = AutoConfig.for_model(**dict(dict(model_type=kind), **fields))
    options = dict(add_pooling_layer=False) if kind == 'vit' else {}
    model = AutoModel.from_config(config, **options).eval()
    model.load_state_dict(to_transformers_vit(state, kind))
    return model


@torch.no_grad()
def test_a_plain_vit_is_timms():
    model, images = timm_model(), torch.randn(2, 3, 32, 32)
    fields = vit_config(model.state_dict())
    assert fields == dict(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        patch_size=8,
        image_size=32,
        layer_norm_eps=1e-6,
        intermediate_size=512,
    )
    found = in_transformers(model.state_dict(), fields, 'vit')(images).last_hidden_state
    assert_close(found, model.forward_features(images), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_dinov2_with_registers_is_timms():
    """timm adds positions to patches alone, and has CLS's in CLS."""
    model = timm_model(
        name='vit_small_patch14_reg4_dinov2', reg_tokens=4, no_embed_class=True, init_values=0.7
    )
    state, images = model.state_dict(), torch.randn(2, 3, 32, 32)
    fields = dinov2_config(state)
    assert fields['model_type'] == 'dinov2_with_registers' and fields['num_register_tokens'] == 4
    found = in_transformers(state, fields, fields['model_type'])(images).last_hidden_state
    assert_close(found, model.forward_features(images), atol=1e-5, rtol=1e-4)


def test_what_is_no_such_vit():
    state = timm_model().state_dict()
    for name, value, sentence in (
        ('patch_embed.proj.weight', torch.zeros(128, 3, 8, 4), 'square patches .* found patches'),
        ('pos_embed', torch.zeros(1, 15, 128), 'a square grid, .* 15 positions'),
        ('blocks.0.norm2.weight', torch.ones(64), 'as wide as patches, 128, found 64'),
    ):
        with pytest.raises(ValueError, match=sentence):
            vit_config(state | {name: value})
    del state['pos_embed']
    with pytest.raises(ValueError, match=f'expected a ViT of {MARK}, found no pos_embed'):
        vit_config(state)
