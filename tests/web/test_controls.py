import pytest

from mmseg_siglip.api import DepthPredictor
from mmseg_siglip.web.controls import Control, controls_of, read_controls
from mmseg_siglip.web.limits import Refusal

CHOICE = Control('method', 'Method', 'a', ('a', 'b'))
SWITCH = Control('normals', 'Surface normals', False)
WORDS = Control('background', 'None of these', '')
NUMBER = Control('threshold', 'Threshold', 0.0)
CONTROLS = {control.name: control for control in (CHOICE, SWITCH, WORDS, NUMBER)}


def test_settings_come_as_text_or_as_json_has_them():
    given = dict(method='b', normals='true', background=' wall ', threshold='0.25')
    expected = dict(method='b', normals=True, background='wall', threshold=0.25)
    assert read_controls(CONTROLS, given) == expected
    assert read_controls(CONTROLS, expected) == expected
    assert (
        read_controls(CONTROLS, dict(method='a', normals=False, background='', threshold=0)) == {}
    )


@pytest.mark.parametrize(
    ('given', 'reason'),
    [
        (dict(method='c'), "method: expected one of a, b, found 'c'"),
        (dict(method=['a']), 'method: expected one of a, b'),
        (dict(normals='maybe'), "normals: expected true or false, found 'maybe'"),
        (dict(threshold='nan'), "threshold: expected a number from 0 to 1, found 'nan'"),
        (dict(threshold=2), 'found 2'),
        (dict(device='cuda'), r'expected settings of this model \(method, .*\), found .device'),
    ],
)
def test_others_are_refused(given, reason):
    with pytest.raises(Refusal, match=reason):
        read_controls(CONTROLS, given)


def test_methods_are_those_that_the_encoder_can_work_with(shapes_offer):
    method = shapes_offer.controls['method']
    assert method.default == method.choices[0] == 'csa'
    assert {'sclip', 'naclip', 'vanilla'} < set(method.choices)
    assert not {'value_cls', 'proxyclip', 'corrclip'} & set(method.choices)


def test_what_a_model_lacks_is_no_setting(depth_files):
    system = DepthPredictor.from_config(*depth_files, device='cpu')
    assert not system.model.has_normals and controls_of(system) == {}
