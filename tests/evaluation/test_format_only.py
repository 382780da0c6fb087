"""What scores nothing says nothing of missing scores."""

from __future__ import annotations

import logging

import pytest
from mmengine.logging import MMLogger

from mmseg_siglip.evaluation import DepthMetric, IoUMetric, NormalMetric, RefSegMetric, format_only


@pytest.mark.parametrize('kind', [DepthMetric, IoUMetric, NormalMetric, RefSegMetric])
def test_no_results_are_meant(kind, tmp_path, caplog, monkeypatch):
    waited = []
    monkeypatch.setattr(format_only, 'barrier', lambda: waited.append(True))
    logger = MMLogger.get_instance('format_only', logger_name='format_only')
    logger.addHandler(caplog.handler)
    metric = kind(format_only=True, output_dir=str(tmp_path))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert metric.evaluate(3) == {}
    assert not caplog.records and waited == [True]  # for processes that still predict
