from mmseg_siglip.nearest import did_you_mean

NAMES = ('sclip', 'naclip', 'clearclip')


def test_the_nearest_name_ends_the_sentence():
    assert did_you_mean('clear_clip', NAMES) == "; did you mean 'clearclip'?"
    assert did_you_mean('naclib', iter(NAMES)) == "; did you mean 'naclip'?"


def test_nothing_is_near():
    assert did_you_mean('sam', NAMES) == did_you_mean(5, NAMES) == ''
    assert did_you_mean('naclib', NAMES, likeness=0.9) == ''
