import numpy as np
import pytest
import torch

from mmseg_siglip.evaluation.boundary_iou import (
    BoundaryIoUMetric,
    boundary_counts,
    inner_boundary,
)


def naive_boundary(mask, distance):
    """A pixel of the mask with a pixel that is not, or none at all, within `distance`."""
    height, width = mask.shape
    found = np.zeros_like(mask, bool)
    for y, x in np.argwhere(mask):
        for v in range(y - distance, y + distance + 1):
            for u in range(x - distance, x + distance + 1):
                inside = 0 <= v < height and 0 <= u < width
                found[y, x] |= not inside or not mask[v, u]
    return found


def labels(seed, size=(17, 23), classes=3):
    coarse = np.random.default_rng(seed).integers(0, classes, (5, 6))
    return np.kron(coarse, np.ones((4, 4), int))[: size[0], : size[1]]


@pytest.mark.parametrize('distance', [1, 2, 3])
def test_boundary_equals_the_naive_one(distance):
    mask = labels(0) == 1
    assert (inner_boundary(mask, distance) == naive_boundary(mask, distance)).all()


@pytest.mark.parametrize('distance', [1, 2])
def test_counts_equal_the_naive_ones(distance):
    prediction, truth = labels(1), labels(2)
    truth[4, 5] = truth[10:12, 3] = 255
    found = boundary_counts(prediction, truth, 3, distance, 255)
    near = np.zeros_like(truth, bool)
    for y, x in np.argwhere(truth == 255):
        near[max(y - distance, 0) : y + distance + 1, max(x - distance, 0) : x + distance + 1] = 1
    for label in range(3):
        ours, true = (naive_boundary(m == label, distance) & ~near for m in (prediction, truth))
        assert found[label].tolist() == [(ours & true).sum(), (ours | true).sum()]


def metric(prediction, truth, **options):
    evaluator = BoundaryIoUMetric(**options)
    evaluator.dataset_meta = dict(classes=('a', 'b', 'c'))
    for p, t in zip(prediction, truth, strict=True):
        data = {
            key: dict(data=torch.from_numpy(m)[None])
            for key, m in (('pred_sem_seg', p), ('gt_sem_seg', t))
        }
        evaluator.process({}, [data])
    return evaluator.compute_metrics(evaluator.results)['mBIoU']


def test_by_hand():
    """A block of 4 x 4 moved by a pixel: its ring of 12 shares 6 pixels with the truth's."""
    truth = np.full((8, 8), 2)
    truth[2:6, 2:6] = 0
    moved = np.roll(truth, 1, 1)
    counts = boundary_counts(moved, truth, 3, 1, 255)
    assert counts[0].tolist() == [6, 18] and counts[1].tolist() == [0, 0]
    expected = np.mean([6 / 18, counts[2, 0] / counts[2, 1]]) * 100
    assert metric([moved], [truth], dilation_ratio=0.01) == pytest.approx(expected)


def test_right_is_100_and_pixels_are_summed_over_images():
    maps = [labels(seed) for seed in range(3)]
    assert metric(maps, maps) == 100
    counts = sum(boundary_counts(a, b, 3, 1, 255) for a, b in zip(maps, maps[1:], strict=False))
    expected = 100 * (counts[:, 0] / counts[:, 1]).mean()
    assert metric(maps[:2], maps[1:]) == pytest.approx(expected)


def test_width_follows_the_diagonal():
    big = [np.kron(labels(seed), np.ones((8, 8), int)) for seed in (1, 2)]
    wide = boundary_counts(*big, 3, round(0.02 * np.hypot(*big[0].shape)), 255)
    expected = 100 * (wide[:, 0] / wide[:, 1]).mean()
    assert metric(big[:1], big[1:]) == pytest.approx(expected)


def test_refusals():
    with pytest.raises(ValueError, match='expected dilation_ratio above 0, found 0'):
        BoundaryIoUMetric(dilation_ratio=0)
    with pytest.raises(ValueError, match=r'the truth size \(17, 23\), found \(16, 23\)'):
        metric([labels(0)[:-1]], [labels(0)])
    with pytest.raises(ValueError, match='expected a class with a boundary, found none'):
        ignored = np.full((9, 9), 255)
        metric([np.zeros((9, 9), int)], [ignored])


@pytest.mark.parametrize('key', ['pred_sem_seg', 'seg_logits'])
def test_a_prediction_that_is_no_number_is_refused(key):
    metric = BoundaryIoUMetric()
    metric.dataset_meta = dict(classes=['a', 'b'])
    data = torch.zeros(1, 4, 4)
    given = dict.fromkeys(('pred_sem_seg', 'gt_sem_seg'), dict(data=data.long()))
    bad = dict(data=data.index_fill(1, torch.tensor([2]), float('nan')))
    metric.process({}, [given])
    with pytest.raises(ValueError, match='a.jpg: expected a prediction of finite numbers'):
        metric.process({}, [dict(given, img_path='a.jpg', **{key: bad})])
