"""NYU's and KITTI's protocols against an evaluation that is written in numpy alone.

From a prediction as a model gives it and a depth file's values to the means of a table: crops,
valid pixels, alignment, clamps, scores of each image and their mean over images.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmseg_siglip.datasets.transforms import KBCrop
from mmseg_siglip.evaluation import DepthMetric
from mmseg_siglip.evaluation.depth_scores import SCORES


def crop_of(size, crop):
    """As BTS and all that followed it print it."""
    height, width = size
    mask = np.zeros(size, bool)
    if crop == 'nyu':
        mask[45:471, 41:601] = True
    elif crop == 'garg':
        mask[
            int(0.40810811 * height) : int(0.99189189 * height),
            int(0.03594771 * width) : int(0.96405229 * width),
        ] = True
    elif crop == 'eigen':
        mask[
            int(0.3324324 * height) : int(0.91351351 * height),
            int(0.0359477 * width) : int(0.96405229 * width),
        ] = True
    else:
        mask[:] = True
    return mask


def evaluate(predictions, truths, *, crop, far, align, inverse, near=1e-3):
    rows = []
    for prediction, truth in zip(predictions, truths, strict=True):
        valid = np.logical_and(truth > near, truth <= far) & crop_of(truth.shape, crop)
        if not valid.any():
            continue
        pred, gt = prediction[valid].astype(np.float64), truth[valid].astype(np.float64)
        if align == 'lstsq':
            disparity = pred if inverse else 1 / np.maximum(pred, near)
            design = np.stack([disparity, np.ones_like(disparity)], axis=1)
            (scale, shift), *_ = np.linalg.lstsq(design, 1 / gt, rcond=None)
            pred = 1 / np.clip(scale * disparity + shift, 1 / far, 1 / near)
        elif inverse:
            pred = 1 / pred
        if align == 'median':
            pred = pred * (np.median(gt) / np.median(pred))
        pred = np.clip(pred, near, far)
        ratio = np.maximum(gt / pred, pred / gt)
        log = np.log(pred) - np.log(gt)
        rows.append(
            dict(
                delta1=(ratio < 1.25).mean(),
                delta2=(ratio < 1.25**2).mean(),
                delta3=(ratio < 1.25**3).mean(),
                abs_rel=(np.abs(gt - pred) / gt).mean(),
                sq_rel=((gt - pred) ** 2 / gt).mean(),
                rmse=np.sqrt(((gt - pred) ** 2).mean()),
                rmse_log=np.sqrt((log**2).mean()),
                log10=np.abs(np.log10(pred) - np.log10(gt)).mean(),
                silog=np.sqrt((log**2).mean() - log.mean() ** 2) * 100,
                silog_mmseg=np.sqrt((log**2).mean() - 0.5 * log.mean() ** 2),
            )
        )
    return {name: np.mean([row[name] for row in rows]) for name in SCORES}


def scenes(sizes, far, seed=0):
    """Truth with holes, too far and too near pixels, and what a model could say about it."""
    rng = np.random.default_rng(seed)
    truths = []
    for size in sizes:
        truth = rng.uniform(0.5, 1.3 * far, size).astype(np.float32)
        truth[rng.random(size) < 0.3] = 0
        truths.append(truth)
    return [t * rng.uniform(0.5, 1.6, t.shape).astype(np.float32) + 0.05 for t in truths], truths


def by_metric(config, predictions, truths, *, inverse, **options):
    metric = DepthMetric(**{**config, **options})
    for prediction, truth in zip(predictions, truths, strict=True):
        sample = dict(
            pred_depth_map=dict(data=torch.from_numpy(prediction)[None]),
            gt_depth_map=dict(data=torch.from_numpy(truth)[None]),
            depth_kind='inverse' if inverse else 'depth',
        )
        metric.process({}, [sample])
    return metric.compute_metrics(metric.results)


CASES = [('none', False), ('median', False), ('median', True), ('lstsq', False), ('lstsq', True)]


def assert_equal(found, expected):
    assert tuple(found) == SCORES
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize(('align', 'inverse'), CASES)
def test_nyu(repository, align, inverse):
    config = Config.fromfile(repository / 'configs/_base_/datasets/nyu_depth.py').test_evaluator
    config.pop('type')
    predictions, truths = scenes([(480, 640)] * 2, 10)
    predictions = [1 / p for p in predictions] if inverse else predictions
    expected = evaluate(predictions, truths, crop='nyu', far=10, align=align, inverse=inverse)
    found = by_metric(config, predictions, truths, inverse=inverse, align=align)
    assert_equal(found, expected)


@pytest.mark.parametrize(('align', 'inverse'), CASES)
@pytest.mark.parametrize('crop', ['garg', 'eigen', None])
def test_kitti(repository, align, inverse, crop):
    """The benchmark's size, and odd ones, where parts of sides are no whole pixels."""
    config = Config.fromfile(repository / 'configs/_base_/datasets/kitti_depth.py').test_evaluator
    config.pop('type')
    assert config.crop_type == 'garg'
    predictions, truths = scenes([(352, 1216), (375, 1241), (37, 101), (1, 7)], 80)
    truths[3][:] = 5
    predictions = [1 / p for p in predictions] if inverse else predictions
    if crop is not None:  # one row is nothing of them
        predictions, truths = predictions[:3], truths[:3]
    expected = evaluate(predictions, truths, crop=crop, far=80, align=align, inverse=inverse)
    options = dict(inverse=inverse, align=align, crop_type=crop)
    assert_equal(by_metric(config, predictions, truths, **options), expected)


@pytest.mark.parametrize('size', [(375, 1242), (376, 1241), (370, 1226), (353, 1217), (352, 1216)])
def test_kittis_benchmark_crop(size):
    image = np.arange(size[0] * size[1], dtype=np.int32).reshape(size)
    top, left = int(size[0] - 352), int((size[1] - 1216) / 2)
    expected = image[top : top + 352, left : left + 1216]
    results = dict(img=image, gt_depth_map=image.copy(), seg_fields=['gt_depth_map'])
    cropped = KBCrop().transform(results)
    np.testing.assert_array_equal(cropped['img'], expected)
    np.testing.assert_array_equal(cropped['gt_depth_map'], expected)


@pytest.mark.parametrize('name', ['nyu_depth', 'kitti_depth', 'rgbd_7scenes'])
def test_a_map_without_truth_reaches_the_metric(repository, name):
    config = Config.fromfile(repository / f'configs/_base_/datasets/{name}.py')
    for loader, allowed in ((config.test_dataloader, True), (config.train_dataloader, False)):
        (load,) = (t for t in loader.dataset.pipeline if t.type == 'LoadDepthAnnotation')
        assert load.get('allow_empty', False) == allowed
