import pytest

from mmseg_siglip.nearest import check_options, did_you_mean

NAMES = ('sclip', 'naclip', 'clearclip')


def test_the_nearest_name_ends_the_sentence():
    assert did_you_mean('clear_clip', NAMES) == "; did you mean 'clearclip'?"
    assert did_you_mean('naclib', iter(NAMES)) == "; did you mean 'naclip'?"


def test_nothing_is_near():
    assert did_you_mean('sam', NAMES) == did_you_mean(5, NAMES) == ''
    assert did_you_mean('naclib', NAMES, likeness=0.9) == ''


def one(source, /, first, *rest, second=1, **others): ...


class Two:
    def __init__(self, third, fourth=2): ...


def test_options_that_nobody_takes():
    check_options(['first', 'second', 'third', 'fourth'], one, Two, what='it')
    check_options([], one, what='it')
    known = 'expected one of first, second, fourth'
    for option in ('source', 'rest', 'others', 'third'):
        with pytest.raises(ValueError, match=f"it: unknown option '{option}'; {known}"):
            check_options(['second', option], one, Two, but=['third'], what='it')
    with pytest.raises(ValueError, match=f"{known}; did you mean 'second'[?]"):
        check_options(['secnd'], one, Two, but=['third'], what='it')
