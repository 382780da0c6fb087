from types import SimpleNamespace as Fields

import pytest
from transformers import SiglipConfig, SiglipImageProcessor, SiglipVisionConfig
from transformers.image_utils import SizeDict

from mmseg_siglip.models.backbones.image_size import fitting_size, resolve_image_size


@pytest.mark.parametrize(
    ('processor', 'config', 'expected'),
    [
        (None, SiglipConfig(vision_config=dict(image_size=384)), (384, 384)),
        (None, SiglipVisionConfig(image_size=256), (256, 256)),
        (None, Fields(vision_config=Fields(image_size=[224, 320])), (224, 320)),
        (None, Fields(vision_config=Fields(num_patches=256, patch_size=16)), (256, 256)),
        (Fields(size=224), None, (224, 224)),
        (Fields(size=(224, 320)), None, (224, 320)),
        (Fields(size=dict(height=384, width=512)), None, (384, 512)),
        (Fields(size=dict(shortest_edge=224)), None, (224, 224)),
        (Fields(size=dict(shortest_edge=480, longest_edge=640)), None, (480, 480)),
        (Fields(size=dict(longest_edge=1024)), None, (1024, 1024)),
        (Fields(size=dict(shortest_edge=256), crop_size=dict(height=224, width=224)), None,
         (224, 224)),
        (Fields(size=SizeDict(height=384, width=384)), None, (384, 384)),
        (Fields(size=SizeDict(shortest_edge=224)), None, (224, 224)),
        (Fields(patch_size=16, max_num_patches=256), None, (256, 256)),
        (SiglipImageProcessor(size=dict(height=64, width=96)), None, (64, 96)),
        # the model's own configuration comes before the processor
        (Fields(size=224), SiglipConfig(vision_config=dict(image_size=512)), (512, 512)),
    ],
)  # fmt: skip
def test_every_form_is_understood(processor, config, expected):
    assert resolve_image_size(processor, config) == expected


@pytest.mark.parametrize('processor', [None, Fields(), Fields(size=None), Fields(size={})])
def test_absent_everywhere_is_an_error(processor):
    with pytest.raises(ValueError, match='expected an image size'):
        resolve_image_size(processor, Fields(vision_config=Fields(patch_size=16)))


@pytest.mark.parametrize(
    'size', [10**9, -1, (0, 32), (32, 2.5), ('a', 'b'), dict(height=1, width=None)]
)
def test_what_is_no_size_is_refused(size):
    with pytest.raises(ValueError, match='image size: expected a height and a width of 1 to 8192'):
        resolve_image_size(None, Fields(image_size=size))


@pytest.mark.parametrize(
    ('size', 'patches', 'grid'), [((1024, 2048), 576, (17, 33)), ((500, 333), 256, (19, 13))]
)
def test_naflex_keeps_the_aspect(size, patches, grid):
    assert fitting_size(size, 16, patches) == tuple(16 * n for n in grid)
