"""DINOv3's block against transformers' own layer, on any grid."""

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoConfig, AutoModel

from mmseg_siglip.models.backbones.block import attend, run_block
from mmseg_siglip.models.backbones.dinov3 import DINOv3Block, PatchAngles

CONFIG = dict(
    model_type='dinov3_vit',
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=1,
    num_attention_heads=2,
    patch_size=8,
    image_size=32,
    num_register_tokens=2,
)


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(**CONFIG)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter += 0.05 * torch.randn_like(parameter)
    return model


@torch.no_grad()
@pytest.mark.parametrize('grid', [(4, 4), (3, 5), (1, 7)])
def test_a_block_is_transformers_own(model, grid):
    images = torch.randn(2, 3, 8 * grid[0], 8 * grid[1])
    x = model.embeddings(images)
    angles = PatchAngles(model.rope_embeddings.inv_freq)
    turns = model.rope_embeddings(images)
    for own, theirs in zip(angles(grid), reversed(turns), strict=True):  # sine first, cosine first
        assert_close(own, theirs)
    (layer,) = model.model.layer
    wanted = layer(x, position_embeddings=turns)
    block = DINOv3Block(layer, angles)
    assert_close(run_block(block, x, attend, grid=grid), wanted, atol=1e-5, rtol=1e-4)
    normed = DINOv3Block(layer, angles, model.norm)
    assert_close(run_block(normed, x, attend, grid=grid), model.norm(wanted), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_without_a_grid_nothing_is_turned(model):
    block = DINOv3Block(model.model.layer[0], PatchAngles(model.rope_embeddings.inv_freq))
    u = torch.randn(1, 3 + 6, 32)
    plain, turned = block.qkv(u), block.qkv(u, (2, 3))
    assert torch.equal(plain[2], turned[2])
    for straight, other in zip(plain[:2], turned[:2], strict=True):
        assert torch.equal(straight[:, :, :3], other[:, :, :3])
        assert not torch.allclose(straight[:, :, 3:], other[:, :, 3:])
