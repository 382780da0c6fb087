"""Published models of every family through ``torch.compile``."""

import pytest
import torch
from tiny_depth_models import (
    depth_anything,
    depth_anything_processor,
    dpt,
    dpt_processor,
    save,
    tips,
    tips_processor,
    zoe_depth,
)
from torch._dynamo.testing import CompileCounter

from mmseg_siglip.models.compiled import compile_parts
from mmseg_siglip.models.segmentors import PublishedDepthEstimator

FAMILIES = {
    'depth_anything': lambda: (depth_anything(), depth_anything_processor()),
    'dpt': lambda: (dpt(), dpt_processor()),
    'zoe_depth': zoe_depth,
    'tips': lambda: (tips(), tips_processor()),
}


@pytest.mark.parametrize(
    'family',
    [
        'depth_anything',
        *(pytest.param(name, marks=pytest.mark.slow) for name in ('dpt', 'zoe_depth', 'tips')),
    ],
)
def test_compiled_as_it_is_written(tmp_path, family):
    model = PublishedDepthEstimator(
        dict(pretrained=str(save(*FAMILIES[family](), tmp_path / family)))
    ).eval()
    image = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        expected = model.inference(image)
        counter = CompileCounter()
        (name,) = compile_parts(model, dict(backend=counter), 'prediction')
        found = model.inference(image)
    assert name.endswith('.compute') and counter.frame_count > 0
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
