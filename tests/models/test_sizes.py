import pytest

from mmseg_siglip.models.sizes import pair


def test_one_side_is_a_square():
    assert pair(7, 'crop_size') == (7, 7)
    assert pair([7, 9], 'crop_size') == (7, 9)
    assert pair(0, 'stride', least=0) == (0, 0)


@pytest.mark.parametrize('value', [(7,), (7, 8, 9), 7.0, (7.0, 8), '78', None, True])
def test_other_sides_are_refused(value):
    with pytest.raises(ValueError, match=r'stride: expected a side or \(rows, columns\) in pixels'):
        pair(value, 'stride')


@pytest.mark.parametrize('value', [0, (3, 0), (-1, 3)])
def test_a_side_has_a_least_length(value):
    with pytest.raises(ValueError, match=r'dim: expected 1 or more tokens, found .*[01]'):
        pair(value, 'dim', unit='tokens')
