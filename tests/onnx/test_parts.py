from __future__ import annotations

import pytest
import torch
from torch import nn

from mmseg_siglip.api import DepthPredictor, OpenVocabSegmenter
from mmseg_siglip.onnx.parts import graph_part


@pytest.fixture
def depth():
    return DepthPredictor.from_pretrained('shapes_depth', device='cpu', precision='fp32')


def test_dense_features_and_their_cosines_with_words(shapes):
    shapes.use('circle, square|box')
    part = graph_part(shapes.model)
    images = torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        features, cosines = part(images)
        assert torch.equal(features, shapes.model.encode(images))
        assert torch.allclose(cosines[0], shapes.model.whole_cosines([images[0]])[0], atol=1e-6)
    assert part.classes == (('circle',), ('square', 'box'))
    assert (part.kind, part.channels, part.patch, part.native) == ('dense', 128, 8, (64, 64))


def test_what_stays_outside_is_the_rest_of_the_configuration(shapes, depth):
    outside = graph_part(shapes.model).outside(shapes.description)
    assert outside['postprocessor']['type'] == 'PAMRPostProcessor'
    assert outside['test_cfg']['crop_size'] == (48, 48)
    assert not outside.keys() & {'backbone', 'attention', 'vocabulary', 'templates'}
    assert graph_part(depth.model).outside(depth.description) == {}


def test_depth_is_that_of_the_patches(depth):
    images = torch.randn(1, 3, 16, 24)
    with torch.no_grad():
        (maps,) = graph_part(depth.model)(images)
        assert torch.equal(maps, depth.model.encode_decode(images))
    assert graph_part(depth.model).own == dict(predicts='depth')


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        (dict(method='gla_clip', guide='tiny_siglip_shapes'), 'sees one window at a time'),
        (dict(method='clip_surgery'), 'that gives features'),
        (dict(method='textregion'), 'sees one window at a time'),
        (dict(score_steps=[dict(type='GlobalBias')]), 'without score_steps'),
    ],
)
def test_a_method_that_no_graph_holds_is_refused(options, reason):
    segmenter = OpenVocabSegmenter.from_pretrained(
        'tiny_siglip_shapes', device='cpu', precision='fp32', **options
    )
    with pytest.raises(ValueError, match=f'{reason}.* to export'):
        graph_part(segmenter.model)


def test_other_models_are_refused():
    with pytest.raises(ValueError, match='expected a model of SCLIPSegmentor, .* found a Linear'):
        graph_part(nn.Linear(1, 1))
