"""What the range of a metric leaves out is said."""

from __future__ import annotations

import logging

import pytest
import torch

from mmseg_siglip.engine.kept_results import from_json, to_json
from mmseg_siglip.evaluation import DepthMetric


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmseg_siglip.evaluation.depth_range.print_log',
        lambda text, logger, level: lines.append((text, level)),
    )
    return lines


def evaluate(prediction, truth, kind='depth', **options) -> dict[str, float]:
    """Of results that were kept in between."""
    metric = DepthMetric(**options)
    sample = dict(
        pred_depth_map=dict(data=prediction[None]),
        gt_depth_map=dict(data=truth[None]),
        img_path='a.jpg',
        depth_kind=kind,
    )
    metric.process({}, [sample, dict(sample, gt_depth_map=dict(data=0 * truth[None]))])
    return metric.compute_metrics(from_json(to_json(metric.results)))


def test_truth_beyond_the_range_is_not_left_out_without_a_word(said):
    """Two thirds are: as if the range, or the unit of the files, were another."""
    truth = torch.tensor([[2.0, 20, 30, 0, float('nan')]])
    prediction = torch.tensor([[2.0, 2, 2, 2, 2]])
    assert evaluate(prediction, truth)['delta1'] == 1
    assert said == [
        (
            'true depth at 10.00% of the pixels looked at, medians of images 20 to 20 m; 66.67% of '
            'the true depth is not in 0.001 to 10.0 m and does not count',
            logging.WARNING,
        )
    ]


def test_clamped_predictions(said):
    truth, prediction = torch.full((1, 4), 2.0), torch.tensor([[2.0, 30, 0, 2]])
    evaluate(prediction, truth)
    ((line, level),) = said
    assert line.endswith(' 2 to 2 m; 50.00% of the predictions are not and are clamped')
    assert level == logging.INFO
    evaluate(torch.tensor([[2.0, 30, 0, 3]]), truth, kind='inverse', align='lstsq')
    assert said[-1][0].endswith(' medians of images 2 to 2 m')
