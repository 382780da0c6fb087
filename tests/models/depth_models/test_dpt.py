"""DPT, folders and MiDaS' files, against transformers on the same weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_depth_models import (
    beit,
    by_transformers,
    dpt,
    dpt_beit_release,
    dpt_processor,
    dpt_release,
    photograph,
    save,
)
from transformers import BitConfig, Dinov2Config, DPTImageProcessor

from mmseg_siglip.api import DepthPredictor

SIZES = [(57, 91), (120, 64)]
DINOV2 = Dinov2Config(
    hidden_size=64, num_hidden_layers=12, num_attention_heads=1, mlp_ratio=2, image_size=70,
    patch_size=14, out_indices=[3, 6, 9, 12], reshape_hidden_states=False,
)  # fmt: skip
HYBRID = dict(
    is_hybrid=True, hidden_size=64, backbone_featmap_shape=[1, 32, 4, 4],
    backbone_config=BitConfig(
        global_padding='same', layer_type='bottleneck', depths=[1, 1, 1], hidden_sizes=[8, 16, 32],
        embedding_size=8, num_groups=4, out_features=['stage1', 'stage2', 'stage3'],
        embedding_dynamic_padding=True,
    ),
    neck_hidden_sizes=[8, 16, 16, 20],
)  # fmt: skip


def load(source, **options):
    return DepthPredictor.from_pretrained(source, device='cpu', precision='fp32', **options)


def assert_equal(predictor, model, processor):
    for size in SIZES:
        expected = by_transformers(model, processor, photograph(size)).numpy()
        found = predictor(photograph(size)).depth
        assert found.shape == size and expected.std() > 0.01 * expected.max()
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * expected.max())


@pytest.mark.parametrize(
    ('fields', 'unit'),
    [
        (dict(), 'inverse'),
        (dict(readout_type='ignore'), 'inverse'),
        (dict(backbone_config=beit()), 'inverse'),
        (HYBRID, 'inverse'),
        (
            dict(backbone_config=DINOV2, add_projection=True, fusion_hidden_size=256),
            'metre',
        ),
    ],
    ids=['vit', 'ignore', 'beit', 'hybrid', 'dinov2'],
)
def test_folders_equal_transformers(tmp_path, fields, unit):
    processor = dpt_processor(70) if 'add_projection' in fields else dpt_processor()
    model = dpt(**fields)
    predictor = load(save(model, processor, tmp_path))
    assert predictor.unit == unit
    assert_equal(predictor, model, processor)


def test_a_folder_of_the_first_transformers(tmp_path):
    """``Intel/dpt-large`` was published with these names."""
    model = dpt()
    save(model, None, tmp_path)
    preprocessor = dict(
        do_normalize=True, do_resize=True, ensure_multiple_of=1, keep_aspect_ratio=False,
        feature_extractor_type='DPTFeatureExtractor', image_mean=[0.5] * 3, image_std=[0.5] * 3,
        resample=2, size=64,
    )  # fmt: skip
    (tmp_path / 'preprocessor_config.json').write_text(json.dumps(preprocessor))
    processor = DPTImageProcessor(size=dict(height=64, width=64), resample=2)
    assert_equal(load(tmp_path), model, processor)


@pytest.mark.parametrize('name', ['dpt_large_384.pt', 'dpt_beit_large_512.pt'])
def test_releases_equal_the_folders_that_they_became(tmp_path, name):
    on_beit = 'beit' in name
    model = dpt(backbone_config=beit()) if on_beit else dpt()
    torch.save((dpt_beit_release if on_beit else dpt_release)(model), tmp_path / name)
    predictor = load(tmp_path / name)
    assert predictor.unit == 'inverse'
    assert_equal(predictor, model, dpt_processor())


def test_what_comes_out_can_be_said(tmp_path):
    torch.save(dpt_release(dpt()), tmp_path / 'mine.pt')
    assert load(tmp_path / 'mine.pt', predicts='depth').unit == 'metre'
    with pytest.raises(ValueError, match="expected one of depth, inverse, found 'metres'"):
        load(tmp_path / 'mine.pt', predicts='metres')


def test_a_processor_that_keeps_aspects_needs_another_encoder(tmp_path):
    processor = DPTImageProcessor(
        size=dict(height=64, width=64), keep_aspect_ratio=True, ensure_multiple_of=16
    )
    predictor = load(save(dpt(), processor, tmp_path))
    assert predictor(photograph((64, 64))).depth.shape == (64, 64)
    with pytest.raises(ValueError, match='takes squares alone, found 64x96 pixels'):
        predictor(photograph((64, 96)))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda state: state.pop('scratch.output_conv.4.bias'),
            r'1 are missing, first head\.head\.4\.bias',
        ),
        (
            lambda state: state.update({'scratch.extra.weight': torch.zeros(1)}),
            r'1 are unknown, first scratch\.extra\.weight',
        ),
        (
            lambda state: state.pop('pretrained.act_postprocess2.3.weight'),
            r'expected pretrained\.act_postprocess2\.3\.weight of DPT, found none',
        ),
        (
            lambda state: state.update(
                {'pretrained.model.patch_embed.backbone.stem.conv.weight': torch.zeros(1)}
            ),
            'of the releases of DPT, those on ViT and BEiT are read',
        ),
        (
            lambda state: [
                state.pop(name)
                for name in [*state]
                if name.startswith('pretrained.model.blocks.11')
            ],
            'expected an encoder of 12 or 24 blocks, found 11',
        ),
    ],
)
@pytest.mark.parametrize('encoder', ['vit', 'beit'])
def test_what_does_not_fit_is_one_sentence(tmp_path, change, message, encoder):
    model = dpt(backbone_config=beit()) if encoder == 'beit' else dpt()
    state = (dpt_beit_release if encoder == 'beit' else dpt_release)(model)
    change(state)
    torch.save(state, tmp_path / 'dpt.pt')
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path / 'dpt.pt')
    assert '\n' not in str(caught.value) and str(tmp_path / 'dpt.pt') in str(caught.value)
