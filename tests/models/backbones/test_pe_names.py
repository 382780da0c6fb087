"""The published PE-Cores at full size, without weights."""

import pytest
import torch

from mmseg_siglip.models.backbones import PECoreBackbone
from mmseg_siglip.models.backbones.build import find_encoder_type


@pytest.mark.parametrize(
    ('name', 'size', 'patch', 'widths', 'prefix', 'context'),
    [
        ('PE-Core-T-16-384', 384, 16, (192, 512), 1, 32),
        ('PE-Core-B-16', 224, 16, (768, 1024), 1, 32),
        ('PE-Core-bigG-14-448', 448, 14, (1536, 1280), 0, 72),
    ],
)
def test_published(name, size, patch, widths, prefix, context):
    assert find_encoder_type(f'{name}:meta') == 'PECoreBackbone'
    with torch.device('meta'):
        backbone = PECoreBackbone(arch=name)
    assert backbone.image_size == (size, size) and backbone.patch_size == patch
    assert (backbone.hidden_size, backbone.embed_dim) == widths
    assert backbone.num_prefix == prefix and backbone.context_length == context
