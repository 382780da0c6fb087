"""Whole files of the package sam2, in its layout."""

from __future__ import annotations

import pytest
import torch
from rsrefseg2_oracle import in_sam2_names
from sam2_layout import SIZES, layout
from tiny_sams import disturb
from transformers import Sam2Config, Sam2Model

from mmseg_siglip.models.adapters.sam2 import image_part, sam2_config, to_sam2
from mmseg_siglip.models.sam import SAMAdapter, load

SMALL = dict(width=16, stages=(1, 2, 7, 2), background=7, channels=32, hidden=48, memory=8)
SIDE = 128
CONFIG = dict(
    vision_config=dict(
        backbone_config=dict(
            hidden_size=16,
            image_size=[SIDE, SIDE],
            embed_dim_per_stage=[16, 32, 64, 128],
        ),
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=32,
    ),
    prompt_encoder_config=dict(hidden_size=32, image_size=SIDE),
    mask_decoder_config=dict(
        hidden_size=32, mlp_dim=48, iou_head_hidden_dim=32, dynamic_multimask_via_stability=False
    ),
)
"""transformers' defaults are the tiny model's."""


@pytest.fixture(scope='module')
def plain():
    torch.manual_seed(0)
    model = disturb(Sam2Model(Sam2Config(**CONFIG)))
    code = model.shared_image_embedding.positional_embedding
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(code)
    return model


@pytest.fixture(scope='module')
def published(plain):
    """`plain`'s tensors by the package's names, among those that only videos need."""
    found = {}
    for name, value in plain.state_dict().items():
        if not name.startswith('shared_image_embedding.'):
            name = name.replace('vision_encoder.', 'vision_encoder.base_model.model.')
            found |= in_sam2_names(name, value)
    drop = ('backbone.model.', '.base_model.model')
    found = {name.replace(drop[0], '').replace(drop[1], ''): v for name, v in found.items()}
    shapes = layout(**SMALL)
    assert {name: tuple(v.shape) for name, v in found.items()}.items() <= shapes.items()
    return {name: found.get(name, torch.randn(shape)) for name, shape in shapes.items()}


@pytest.fixture
def write(tmp_path):
    def write(state):
        torch.save(dict(model=state), tmp_path / 'sam2.1_hiera_small.pt')
        return str(tmp_path / 'sam2.1_hiera_small.pt')

    return write


@torch.no_grad()
@pytest.mark.parametrize('multimask', [True, False])
def test_equals_transformers(plain, published, write, multimask, monkeypatch):
    said = []
    monkeypatch.setattr(load, 'print_log', lambda text, _: said.append(text))
    adapter = SAMAdapter(write(published), kind='sam2', image_size=SIDE)
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    points = torch.tensor([[30.0, 50.0], [100.0, 20.0]]).expand(2, 1, 2, 2)
    labels = torch.tensor([1, 0]).expand(2, 1, 2)
    features = adapter.encode(images)
    prompts = adapter.prompt_points(points, labels, features)
    masks, iou = adapter.decode(features, prompts, multimask=multimask)
    wanted = plain(
        pixel_values=(images - adapter.mean) / adapter.std,
        input_points=points,
        input_labels=labels,
        multimask_output=multimask,
    )
    torch.testing.assert_close(masks, wanted.pred_masks, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(iou, wanted.iou_scores, atol=1e-5, rtol=1e-5)
    assert wanted.pred_masks.std() > 1e-3
    assert [line.partition(' is ')[2] for line in said] == [
        'read without 160 tensors that only videos need'
    ]


@pytest.mark.parametrize('size', SIZES)
def test_published_sizes_fit(size):
    with torch.device('meta'):
        state = {name: torch.empty(shape) for name, shape in layout(**SIZES[size]).items()}
        state = image_part(state)
        model = Sam2Model(sam2_config(state))
    ours = {name: value.shape for name, value in to_sam2(state).items()}
    assert ours == {name: value.shape for name, value in model.state_dict().items()}
    vision = model.config.vision_config.backbone_config
    heads, windows, whole = dict(
        tiny=(1, [8, 4, 14, 7], [5, 7, 9]),
        small=(1, [8, 4, 14, 7], [7, 10, 13]),
        base_plus=(2, [8, 4, 14, 7], [12, 16, 20]),
        large=(2, [8, 4, 16, 8], [23, 33, 43]),
    )[size]
    assert vision.num_attention_heads_per_stage == [heads, 2 * heads, 4 * heads, 8 * heads]
    assert vision.window_size_per_stage == windows
    assert vision.global_attention_blocks == whole


@pytest.mark.parametrize('change', ['missing', 'unknown', 'stages', 'no head'])
def test_refuses_what_does_not_fit(published, write, change):
    state = dict(published)
    if change == 'missing':
        del state['sam_mask_decoder.conv_s0.bias']
        message = r'1 \(first mask_decoder.conv_s0.bias\) missing and 0 unknown'
    elif change == 'unknown':
        state['memory_bank.weight'] = torch.zeros(1)
        message = r'0 missing and 1 \(first memory_bank.weight\) unknown'
    elif change == 'stages':
        state = {name: v for name, v in state.items() if '.blocks.11.' not in name}
        message = r'one of \(1, 2, 7, 2\), .* found \(1, 2, 7, 1\)'
    else:
        state = {name: v for name, v in state.items() if 'iou_prediction_head' not in name}
        message = 'sam2.1_hiera_small.pt: expected .* found no tensor sam_mask_decoder.iou'
    with pytest.raises(ValueError, match=message):
        SAMAdapter(write(state))


def test_brings_its_own_configuration(published, write):
    with pytest.raises(ValueError, match='its tensors tell the configuration; drop config'):
        SAMAdapter(write(published), config=dict(model_type='sam2'))
