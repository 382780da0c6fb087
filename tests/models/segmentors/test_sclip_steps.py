"""What stands behind a dense method in `SCLIPSegmentor`: score steps, upsampler, postprocessors."""

import pytest
import torch
from contracts.dense_method import images
from tiny_guides import tiny_guide

from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.models.segmentors.parts import build_all

WORDS = ['cat', 'sky, grass', 'road']
SLIDE = dict(crop_size=(24, 32), stride=(16, 24), return_logits=True)
BIAS, SURGERY = dict(type='GlobalBias'), dict(type='FeatureSurgery')
EXPERTS = dict(type='TemplateExperts', ranking=dict(cat=[0]), top_n=1)
ANY_UP = dict(type='AnyUp', scale=2)


@pytest.fixture(scope='module')
def wholes():
    """Methods that give one map for an image, by name."""
    guide = tiny_guide()
    return dict(
        scga=dict(type='scga'),
        stitched=dict(type='stitched', guide=guide),
        trident=dict(type='trident', guide=guide, sam=tiny_guide('SAMGuide')),
    )


@pytest.fixture
def make(openai_file):
    def build(**options):
        options = dict(templates='plain', logit_scale=20.0, test_cfg=SLIDE) | options
        return SCLIPSegmentor(dict(pretrained=openai_file), WORDS, **options).eval()

    return build


@pytest.mark.parametrize('name', ['scga', 'stitched', 'trident'])
@pytest.mark.parametrize('step', [BIAS, SURGERY])
def test_steps_that_see_windows_need_a_method_that_gives_windows(make, wholes, name, step):
    message = f'{name!r} gives one map .* ask for windows, found {step["type"]}; use a postproc'
    with pytest.raises(ValueError, match=message):
        make(attention=wholes[name], score_steps=[step])
    model = make(attention='csa', score_steps=[step])
    with pytest.raises(ValueError, match=message):
        model.attention = wholes[name]
    assert model.attention == 'csa'


def test_steps_that_see_features_alone_go_with_every_map(make, wholes):
    model = make(attention=wholes['scga'], score_steps=[EXPERTS])
    found = model.predict(images((40, 56), (24, 32)))
    assert [sample.seg_logits.data.shape for sample in found] == [(3, 40, 56), (3, 24, 32)]


@pytest.mark.parametrize('name', ['cliptrase', 'textregion', 'mask_crop'])
@pytest.mark.parametrize(
    ('options', 'part'),
    [
        (dict(score_steps=[BIAS]), 'GlobalBias'),
        (dict(score_steps=[EXPERTS]), 'TemplateExperts'),
        (dict(upsampler=ANY_UP), 'AnyUp'),
    ],
)
def test_what_needs_features_is_refused_where_there_are_none(make, name, options, part):
    message = f'{name!r} gives scores without features: .* found {part}; use a postprocessor or'
    with pytest.raises(ValueError, match=message):
        make(attention=name, **options)
    model = make(attention='csa', **options)
    with pytest.raises(ValueError, match=message):
        model.method = name
    model.method = dict(type='cliptrase', vote=False)


def test_results_of_windows_are_counted(make, wholes):
    """A fault of ours would else give an image's windows to the next image."""
    model = make(attention=wholes['scga'])
    model.score_steps = build_all([BIAS])
    with pytest.raises(AssertionError, match='expected 1 results, found 4'):
        model.predict(images((40, 56), (24, 32)))
