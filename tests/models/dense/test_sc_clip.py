import copy

import pytest
import torch
from contracts.dense_method import ENCODERS, DenseMethodContract
from sc_clip_oracle import sc_clip

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.dense import SCCLIP, build_method
from mmseg_siglip.models.dense.sc_clip import BLOCKS

OTHERS = dict(cls_weight=0.2, neighbours=4, contamination=0.3, levels=(0, 1), threshold=0.7)


class TestSCCLIP(DenseMethodContract):
    cases = [('sc_clip', kind) for kind in ENCODERS]


class TestSCCLIPWithAPooledVector(DenseMethodContract):
    cases = [(dict(type='sc_clip', cls_weight=0.2), 'pe head')]


@pytest.fixture(scope='module')
def backbone(openai_file):
    return CLIPBackbone(openai_file).requires_grad_(False)


@pytest.mark.parametrize('grid', [(5, 8), (9, 4)])
@torch.no_grad()
def test_equals_the_formulas(backbone, tiny_clip, grid):
    image = torch.randn(3, 8 * grid[0], 8 * grid[1], generator=torch.Generator().manual_seed(0))
    clip = copy.deepcopy(tiny_clip)
    options = dict(weight=0.2, k=4, part=0.3, levels=(0, 1), threshold=0.5)
    expected = sc_clip(clip, image, grid, similar=1, post=0, **options)
    method = dict(type='sc_clip', similar_block=1, post_block=0, **OTHERS | dict(threshold=0.5))
    found = backbone.dense(image[None], attention=method)[0]
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_published_and_scaled_blocks():
    assert SCCLIP().settings(12) == BLOCKS[12]
    assert SCCLIP().settings(24) == BLOCKS[24]
    assert SCCLIP(cls_weight=0.7).settings(24) == BLOCKS[24] | dict(cls_weight=0.7)
    assert SCCLIP().settings(3) == dict(similar_block=1, post_block=1, levels=(1,), cls_weight=0.3)
    assert SCCLIP().settings(32)['levels'] == tuple(range(8, 25))


@torch.no_grad()
@pytest.mark.parametrize('site', ['trunk', 'head'])
def test_the_pooled_vector_in_place_of_cls(siglip_folder, site):
    encoder = SigLIPBackbone(siglip_folder, readout='map', site=site)
    images = torch.randn(2, 3, 32, 48)
    plain, more = (
        encoder.dense(images, attention=dict(type='sc_clip', cls_weight=w)) for w in (0, 0.3)
    )
    expected = 0.3 * encoder.encode_image(images)[:, :, None, None].expand_as(plain)
    torch.testing.assert_close(more - plain, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder.dense(images, attention='sc_clip'), plain)


@torch.no_grad()
def test_a_constant_image_and_one_patch(backbone):
    for size in ((48, 64), (8, 8), (8, 16)):
        assert backbone.dense(torch.zeros(1, 3, *size), attention='sc_clip').isfinite().all()


def test_bad_input(backbone):
    with pytest.raises(ValueError, match='levels: expected at least one block, found none'):
        build_method(dict(type='sc_clip', levels=()))
    with pytest.raises(ValueError, match='expected blocks from -3 to 2, found 9'):
        backbone.dense(torch.zeros(1, 3, 16, 16), attention=dict(type='sc_clip', similar_block=9))
