import numpy as np
import pytest

from mmseg_siglip.evaluation import bootstrap
from mmseg_siglip.evaluation.bootstrap import confidence_interval, resampled_miou


def counts_of(images, classes, seed=0):
    rng = np.random.default_rng(seed)
    union = rng.integers(0, 50, (images, classes))
    return np.stack([(union * rng.random((images, classes))).astype(int), union], axis=1)


def plain_miou(counts):
    """One set of images, class after class."""
    ious = []
    for c in range(counts.shape[2]):
        union = sum(int(image[1, c]) for image in counts)
        if union:
            ious.append(sum(int(image[0, c]) for image in counts) / union)
    return 100 * sum(ious) / len(ious)


def test_equals_images_laid_side_by_side():
    counts = counts_of(7, 4)
    counts[1:, :, 2] = 0  # a class of one image only
    draws = np.random.default_rng(bootstrap.SEED).multinomial(7, [1 / 7] * 7, size=20)
    wanted = [plain_miou(np.repeat(counts, times, axis=0)) for times in draws]
    assert any(times[0] == 0 for times in draws)
    np.testing.assert_allclose(resampled_miou(counts, resamples=20), wanted, rtol=1e-12)


def test_equal_images_leave_no_doubt():
    counts = np.repeat(counts_of(1, 5), 30, axis=0)
    low, high = confidence_interval(resampled_miou(counts))
    assert low == pytest.approx(high) == pytest.approx(plain_miou(counts))


def test_the_interval_holds_the_score_and_shrinks_with_more_images():
    few, many = counts_of(20, 3), np.concatenate([counts_of(20, 3)] * 16)
    spans = []
    for counts in (few, many):
        low, high = confidence_interval(resampled_miou(counts))
        assert low < plain_miou(counts) < high
        spans.append(high - low)
    assert spans[0] / spans[1] == pytest.approx(4, rel=0.15)


def test_pairs_are_surer_than_each_alone():
    """The second method is a little better on every image."""
    counts = counts_of(40, 3)
    better = counts.copy()
    better[:, 0] = np.minimum(counts[:, 0] + 1, counts[:, 1])
    difference = resampled_miou(better) - resampled_miou(counts)
    low, high = confidence_interval(difference)
    assert 0 < low < high
    own = confidence_interval(resampled_miou(counts))
    assert high - low < 0.2 * (own[1] - own[0])


def test_a_draw_without_a_counted_pixel():
    counts = np.zeros((2, 2, 1), int)
    counts[0] = [[3], [4]]
    values = resampled_miou(counts)
    assert np.isnan(values).any() and confidence_interval(values) == (75, 75)
