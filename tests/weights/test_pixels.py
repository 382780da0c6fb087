import pytest

from mmseg_siglip.weights.pixels import check_statistics


def test_three_numbers_each():
    assert check_statistics([0, 0.5, 1], (1, 2, 3.0), 'x') == ((0, 0.5, 1), (1, 2, 3.0))


@pytest.mark.parametrize(
    ('mean', 'std', 'name'),
    [
        (None, [1, 1, 1], 'mean'),
        ([0.5], [1, 1, 1], 'mean'),
        ([0, 0, 0, 0], [1, 1, 1], 'mean'),
        ([0, 0, float('nan')], [1, 1, 1], 'mean'),
        ([0, 0, '1'], [1, 1, 1], 'mean'),
        ([0, 0, 10**400], [1, 1, 1], 'mean'),
        ([0, 0, 0], [1, 0, 1], 'std'),
        ([0, 0, 0], 0.5, 'std'),
        ([0, 0, 0], [1, 1, float('inf')], 'std'),
        ([0, 0, 0], [1, 1, True], 'std'),
    ],
)
def test_others(mean, std, name):
    with pytest.raises(ValueError, match=f'^x: expected three numbers as {name} of its images'):
        check_statistics(mean, std, 'x')
