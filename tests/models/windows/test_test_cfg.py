import pytest

from mmseg_siglip.models.windows.test_cfg import check_test_cfg, window_defaults

DEFAULTS = dict(window_defaults((32, 32)), max_classes=None, phrase_batch=2, threshold=0.5)


def test_what_is_left_out_is_filled_in():
    assert check_test_cfg({}, window_defaults((33, 48))) == dict(
        mode='slide', crop_size=(33, 48), stride=(16, 24), window_batch=16, return_logits=False
    )
    given = dict(mode='whole', crop_size=8, stride=[2, 8], window_batch=1, return_logits=True)
    assert check_test_cfg(given, window_defaults((33, 48))) == dict(
        given, crop_size=(8, 8), stride=(2, 8)
    )
    assert check_test_cfg({}, window_defaults((1, 8), mode='whole'))['stride'] == (1, 4)


def test_none_stands_where_it_stood_before():
    assert check_test_cfg({}, DEFAULTS)['max_classes'] is None
    assert check_test_cfg(dict(max_classes=3), DEFAULTS)['max_classes'] == 3


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(crop=3), r"unknown \['crop'\]; expected mode, crop_size"),
        (dict(mode='tile'), "test_cfg.mode: expected 'slide' or 'whole', found 'tile'"),
        (dict(stride=0), 'expected 1 <= stride <= crop_size, found stride'),
        (dict(crop_size=8, stride=(8, 9)), 'expected 1 <= stride <= crop_size, found stride'),
        (dict(stride=(7,)), r'stride: expected a side or \(rows, columns\) .* found \(7,\)'),
        (dict(crop_size='8'), "crop_size: expected a side or .* found '8'"),
        (dict(window_batch=0), 'test_cfg.window_batch: expected 1 or more, found 0'),
        (dict(window_batch=None), 'test_cfg.window_batch: expected 1 or more, found None'),
        (dict(max_classes=0), 'test_cfg.max_classes: expected 1 or more, found 0'),
        (dict(phrase_batch=1.5), 'test_cfg.phrase_batch: expected 1 or more, found 1.5'),
        (dict(threshold=1.5), r'test_cfg.threshold: expected a value in \(0, 1\), found 1.5'),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        check_test_cfg(options, DEFAULTS)


def test_a_refused_mode_comes_with_its_reason_and_before_all_else():
    with pytest.raises(ValueError, match="mode: expected 'whole', found 'slide'; so it is$"):
        check_test_cfg(dict(mode='slide', crop=3), DEFAULTS, modes=('whole',), why='so it is')
    with pytest.raises(ValueError, match="mode: expected one of a, b, c, found 'slide'"):
        check_test_cfg({}, DEFAULTS, modes=('a', 'b', 'c'))
