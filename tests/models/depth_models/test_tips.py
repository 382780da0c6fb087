"""DPT on TIPS v2 against transformers on the same weights, under the names that are published."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_depth_models import by_transformers, photograph, save, tips, tips_processor
from torch.nn.functional import normalize
from transformers import Tipsv2DptForDensePrediction, Tipsv2DptForDepthEstimation

from mmseg_siglip.api import DepthPredictor

SIZES = [(57, 91), (112, 56)]
PUBLISHED = {
    'vision_encoder.blocks.0.attn.qkv.weight',
    'depth_head.reassemble.readout_projects.0.weight',
    'depth_head.fusion_blocks.1.residual_unit.conv1.weight',
    'depth_head.depth_head.weight',
}


def load(source, **options):
    return DepthPredictor.from_pretrained(source, device='cpu', precision='fp32', **options)


@pytest.mark.parametrize('kind', [Tipsv2DptForDensePrediction, Tipsv2DptForDepthEstimation])
def test_depth_equals_transformers(tmp_path, kind):
    model = tips(kind)
    folder = save(model, tips_processor(), tmp_path)
    assert set(load_file(folder / 'model.safetensors')) >= PUBLISHED
    predictor = load(folder)
    assert predictor.unit == 'metre'
    for size in SIZES:
        expected = by_transformers(model, tips_processor(), photograph(size)).numpy()
        found = predictor(photograph(size)).depth
        assert found.shape == size and expected.std() > 0.001 * expected.mean()
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    file = load(folder / 'model.safetensors')
    np.testing.assert_array_equal(file(photograph(size)).depth, found)


def test_normals_equal_transformers(tmp_path):
    model, processor = tips(), tips_processor()
    predictor = load(save(model, processor, tmp_path))
    calls = []
    predictor.model.backbone.model.backbone.register_forward_hook(lambda *_: calls.append(1))
    for size in SIZES:
        with torch.no_grad():
            outputs = model(**processor(photograph(size), return_tensors='pt'))
        (expected,) = processor.post_process_normal_estimation(outputs, [size])
        expected = normalize(expected['normals'], dim=0)
        calls.clear()
        found = predictor(photograph(size), normals=True)
        assert calls == [1]  # one pass for both
        assert found.normals.normals.shape == (*size, 3)
        np.testing.assert_allclose(found.normals.normals, expected.permute(1, 2, 0), atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(found.normals.normals, axis=2), 1, atol=1e-5)
        assert predictor(photograph(size)).normals is None


def test_normals_where_there_are_none(tmp_path):
    predictor = load(save(tips(Tipsv2DptForDepthEstimation), tips_processor(), tmp_path))
    with pytest.raises(ValueError, match='expected a model that predicts normals, found one of de'):
        predictor(photograph((56, 56)), normals=True)
