"""The Python interface: phrases and photographs in, masks out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image
from tiny_sams import SAM_CONFIG, disturb

from mmseg_siglip.api import Referred, ReferringSegmenter
from mmseg_siglip.registry import MODELS, SCOPE

MODEL = dict(
    type='ReferringSegmentor',
    backbone=dict(pretrained='tiny_siglip_shapes'),
    sam=dict(config=SAM_CONFIG),
    decode_head=dict(),
)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    with DefaultScope.overwrite_default_scope(SCOPE):
        model = MODELS.build(MODEL)
    for part in (model.sam.model, model.decode_head):
        disturb(part, scale=0.2)
    path = tmp_path_factory.mktemp('refer') / 'iter_1.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(iter=1)), path)
    return path


@pytest.fixture(scope='module')
def segmenter(checkpoint):
    return ReferringSegmenter(Config(dict(model=MODEL)), checkpoint)


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)


def test_one_phrase_and_one_image(segmenter, rgb):
    found = segmenter(rgb, 'the red star left of the ring')
    assert isinstance(found, Referred) and isinstance(found.score, float)
    assert found.mask.shape == (50, 80) and found.mask.dtype == bool
    assert found.text == 'the red star left of the ring'
    assert found.plot().size[0] == 80


def test_images_of_every_kind_give_the_same(segmenter, rgb, tmp_path):
    Image.fromarray(rgb).save(tmp_path / 'p.png')
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)
    kinds = [tmp_path / 'p.png', str(tmp_path / 'p.png'), Image.fromarray(rgb), rgb, tensor]
    results = [segmenter(image, 'the ring') for image in kinds]
    assert 0 < results[0].mask.mean() < 1
    for found in results:
        assert np.array_equal(found.mask, results[0].mask)


def test_lists_of_phrases_and_of_images(segmenter, rgb):
    phrases = ['the ring', 'the red star']
    several = segmenter(rgb, phrases)
    assert [one.text for one in several] == phrases
    assert np.array_equal(several[0].mask, segmenter(rgb, 'the ring').mask)
    both = segmenter([rgb, rgb[:30]], phrases)
    assert [[one.mask.shape for one in found] for found in both] == [[(50, 80)] * 2, [(30, 80)] * 2]
    assert [found.mask.shape for found in segmenter([rgb, rgb[:30]], 'the ring')] == [
        (50, 80),
        (30, 80),
    ]


def test_a_model_that_is_built_already(segmenter, rgb, checkpoint):
    again = ReferringSegmenter(segmenter.model)
    assert np.array_equal(again(rgb, 'the ring').mask, segmenter(rgb, 'the ring').mask)
    with pytest.raises(ValueError, match='takes no checkpoint'):
        ReferringSegmenter(segmenter.model, checkpoint)


@pytest.mark.parametrize('text', ['', '   ', [], ['the ring', ''], [3]])
def test_phrases_that_say_nothing_are_refused(segmenter, rgb, text):
    with pytest.raises(ValueError, match='expected .*phrases'):
        segmenter(rgb, text)


def test_other_configs_and_weights_are_refused(segmenter, checkpoint, tmp_path):
    config = Config(dict(model=MODEL))
    with pytest.raises(ValueError, match='checkpoint not found'):
        ReferringSegmenter(config, tmp_path / 'none.pth')
    torch.save(dict(state_dict=dict(a=torch.zeros(1))), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='does not fit'):
        ReferringSegmenter(config, tmp_path / 'other.pth')
    depth = dict(type='SigLIPDepthEstimator', backbone=MODEL['backbone'], decode_head={})
    with pytest.raises(ValueError, match='expected a ReferringSegmentor'):
        ReferringSegmenter(Config(dict(model=depth)), checkpoint)
