import pytest
from mmseg.structures import SegDataSample

from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.models.segmentors.parts import (
    check_precision,
    check_scale,
    flipped_axes,
    places_by,
)


def test_places_of_equal_keys_in_the_order_of_their_first():
    assert places_by([(3, 4), (1, 2), (3, 4)]) == {(3, 4): [0, 2], (1, 2): [1]}
    assert list(places_by('cab')) == ['c', 'a', 'b']
    assert places_by([]) == {}


@pytest.mark.parametrize(
    ('metainfo', 'axes'),
    [
        ({}, ()),
        (dict(flip=False, flip_direction='horizontal'), ()),
        (dict(flip=True, flip_direction='horizontal'), (-1,)),
        (dict(flip=True, flip_direction='vertical'), (-2,)),
        (dict(flip=True, flip_direction='diagonal'), (-2, -1)),
    ],
)
def test_axes_of_a_mirrored_image(metainfo, axes):
    assert flipped_axes(SegDataSample(metainfo=metainfo)) == axes


def test_a_precision_is_one_of_four():
    assert check_precision('bf16') == 'bf16'
    with pytest.raises(ValueError, match="expected one of auto, fp32, bf16, fp16, found 'int8'"):
        check_precision('int8')


@pytest.mark.parametrize('scale', [0, -1.0, float('nan'), float('inf')])
def test_a_scale_that_tells_nothing_apart_is_refused(scale):
    with pytest.raises(ValueError, match='logit_scale: expected a number above 0, found'):
        check_scale(scale)
    assert check_scale(None) is None and check_scale(40) == 40


@pytest.mark.parametrize('scale', [0, -1.0])
def test_a_segmentor_looks_at_its_scale(openai_file, scale):
    with pytest.raises(ValueError, match='logit_scale: expected a number above 0'):
        SCLIPSegmentor(dict(pretrained=openai_file), ['cat', 'dog'], logit_scale=scale)
