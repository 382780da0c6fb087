"""`DPTHead` against transformers' Depth Anything and DPT, with the same weights."""

from __future__ import annotations

import pytest
import torch
from transformers import DepthAnythingConfig, Dinov2Config, DPTConfig
from transformers.models.depth_anything.modeling_depth_anything import (
    DepthAnythingDepthEstimationHead,
    DepthAnythingNeck,
)
from transformers.models.dpt.modeling_dpt import DPTDepthEstimationHead, DPTNeck

from mmseg_siglip.models.adapters.depth_anything import from_depth_anything, load_depth_anything
from mmseg_siglip.models.decode_heads import DPTHead

WIDTH, STAGES = 12, [4, 6, 8, 10]


def randomise(*modules):
    torch.manual_seed(0)
    for module in modules:
        for parameter in module.eval().double().parameters():
            torch.nn.init.normal_(parameter, std=0.2)


def published(neck, head):
    return {
        **{f'neck.{name}': value for name, value in neck.state_dict().items()},
        **{f'head.{name}': value for name, value in head.state_dict().items()},
    }


def original_names(state):
    """transformers' names to those of the first release, written down from its files."""
    table = {
        'neck.reassemble_stage.layers.{i}.projection': 'depth_head.projects.{i}',
        'neck.reassemble_stage.layers.{i}.resize': 'depth_head.resize_layers.{i}',
        'neck.convs.{i}': 'depth_head.scratch.layer{next}_rn',
        'neck.fusion_stage.layers.{i}.projection': 'depth_head.scratch.refinenet{back}.out_conv',
    }
    for unit in (1, 2):
        for conv in (1, 2):
            table[f'neck.fusion_stage.layers.{{i}}.residual_layer{unit}.convolution{conv}'] = (
                f'depth_head.scratch.refinenet{{back}}.resConfUnit{unit}.conv{conv}'
            )
    names = {
        old.format(i=i): new.format(i=i, next=i + 1, back=4 - i)
        for old, new in table.items()
        for i in range(4)
    }
    names |= {
        'head.conv1': 'depth_head.scratch.output_conv1',
        'head.conv2': 'depth_head.scratch.output_conv2.0',
        'head.conv3': 'depth_head.scratch.output_conv2.2',
    }
    pairs = ((name.rpartition('.'), value) for name, value in state.items())
    return {f'{names[stem]}.{leaf}': value for (stem, _, leaf), value in pairs}


def depth_anything(kind, patch):
    config = DepthAnythingConfig(
        backbone_config=Dinov2Config(hidden_size=WIDTH, num_attention_heads=2),
        reassemble_hidden_size=WIDTH,
        neck_hidden_sizes=STAGES,
        fusion_hidden_size=16,
        head_hidden_size=32,
        patch_size=patch,
        depth_estimation_type=kind,
        max_depth=20 if kind == 'metric' else 1,
    )
    neck, head = DepthAnythingNeck(config), DepthAnythingDepthEstimationHead(config)
    randomise(neck, head)
    return neck, head


def our_head(**options):
    return DPTHead(WIDTH, channels=16, post_process_channels=STAGES, **options).eval().double()


@pytest.mark.parametrize('grid', [(4, 4), (5, 7), (27, 9), (1, 3)])
@pytest.mark.parametrize('kind', ['relative', 'metric'])
@pytest.mark.parametrize('rename', [dict, original_names])
def test_equals_depth_anything(grid, kind, rename):
    neck, head = depth_anything(kind, 14)
    ours = our_head(patch_size=14, output=kind, max_depth=20)
    load_depth_anything(ours, rename(published(neck, head)))
    tokens = [torch.randn(2, 1 + grid[0] * grid[1], WIDTH, dtype=torch.float64) for _ in range(4)]
    taps = [x[:, 1:].transpose(1, 2).unflatten(2, grid) for x in tokens]
    with torch.no_grad():
        expected = head(neck(tokens, *grid), *grid)
        got = ours(taps)[:, 0]
    assert expected.std() > 0
    torch.testing.assert_close(got.double(), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize('grid', [(4, 4), (6, 2)])
@pytest.mark.parametrize('readout', ['ignore', 'add', 'project'])
def test_equals_dpt_on_even_grids(grid, readout):
    """On odd ones DPT lets the map grow, which ours does not copy."""
    config = DPTConfig(
        is_hybrid=False,
        hidden_size=WIDTH,
        num_attention_heads=2,
        neck_hidden_sizes=STAGES,
        fusion_hidden_size=16,
        readout_type=readout,
        add_projection=False,
    )
    neck, head = DPTNeck(config), DPTDepthEstimationHead(config)
    randomise(neck, head)
    ours = our_head(patch_size=16, output='relative', readout_type=readout)
    load_depth_anything(ours, published(neck, head))
    tokens = [torch.randn(2, 1 + grid[0] * grid[1], WIDTH, dtype=torch.float64) for _ in range(4)]
    taps = [(x[:, 1:].transpose(1, 2).unflatten(2, grid), x[:, 0]) for x in tokens]
    with torch.no_grad():
        expected = head(neck(tokens, *grid))
        got = ours(taps)[:, 0]
    assert expected.std() > 0
    torch.testing.assert_close(got.double(), expected, atol=1e-6, rtol=1e-6)


def test_the_encoder_and_the_unused_unit_are_left_out():
    neck, head = depth_anything('metric', 14)
    state = published(neck, head) | {'backbone.embeddings.cls_token': torch.zeros(1)}
    renamed = from_depth_anything(state)
    assert set(renamed) == set(our_head(patch_size=14).state_dict())


def test_bad_files_get_one_sentence():
    neck, head = depth_anything('metric', 14)
    state = published(neck, head)
    with pytest.raises(ValueError, match='expected the decoder .* found 1 tensors, first weight'):
        from_depth_anything(dict(weight=torch.zeros(1)))
    with pytest.raises(ValueError, match=r'lacks conv1.bias \(1 in all\)'):
        load_depth_anything(
            our_head(patch_size=14), {k: v for k, v in state.items() if k != 'head.conv1.bias'}
        )
    with pytest.raises(ValueError, match=r'also has reassemble_blocks.readout_projects'):
        extra = {'neck.reassemble_stage.readout_projects.0.0.bias': torch.zeros(WIDTH)}
        load_depth_anything(our_head(patch_size=14), state | extra)
    with pytest.raises(ValueError, match=r'expected conv1.weight \(8, 16, 3, 3\), found \(1,\)'):
        load_depth_anything(our_head(patch_size=14), state | {'head.conv1.weight': torch.ones(1)})
