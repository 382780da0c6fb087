import numpy as np
import pytest
from tiny_depth_models import by_transformers, photograph, save, zoe_depth

from mmseg_siglip.api import DepthPredictor


def test_a_folder_equals_transformers(tmp_path):
    model, processor = zoe_depth()
    predictor = DepthPredictor.from_pretrained(
        save(model, processor, tmp_path), device='cpu', precision='fp32'
    )
    assert predictor.unit == 'metre'
    for size in [(57, 91), (64, 64)]:
        expected = by_transformers(model, processor, photograph(size)).numpy()
        found = predictor(photograph(size)).depth
        assert found.shape == size and expected.std() > 0
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match='max_depth means nothing for ZoeDepth, which takes no'):
        DepthPredictor.from_pretrained(tmp_path, max_depth=3)
