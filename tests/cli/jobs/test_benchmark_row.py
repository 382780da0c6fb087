"""What a row measures beside the config's own metrics."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config

from mmseg_siglip.cli.jobs.benchmark_row import percent, with_boundaries


@pytest.mark.parametrize('evaluator', [dict(type='IoUMetric', ignore_index=7)])
@pytest.mark.parametrize('wrap', [dict, lambda one: [one]])
def test_boundaries_are_measured_once(evaluator, wrap):
    cfg = Config(dict(test_evaluator=wrap(evaluator)))
    for _ in range(2):
        with_boundaries(cfg)
        assert [one['type'] for one in cfg.test_evaluator] == ['IoUMetric', 'BoundaryIoUMetric']
    assert cfg.test_evaluator[1]['ignore_index'] == 7


def test_scores_are_plain_numbers():
    assert percent(torch.tensor(12.345678)) == 12.35 and type(percent(torch.tensor(1.0))) is float
