"""What metrics that save have in common."""

from __future__ import annotations

import errno
import logging
import os
import threading

import pytest
import torch
from mmengine.logging import MMLogger

from mmseg_siglip.evaluation import (
    DepthMetric,
    IoUMetric,
    NormalMetric,
    RefSegMetric,
    iou_metric,
    saving_metric,
)


@pytest.mark.parametrize('kind', [DepthMetric, IoUMetric, NormalMetric, RefSegMetric])
def test_no_results_are_meant(kind, tmp_path, caplog, monkeypatch):
    waited = []
    monkeypatch.setattr(saving_metric, 'barrier', lambda: waited.append(True))
    logger = MMLogger.get_instance('format_only', logger_name='format_only')
    logger.addHandler(caplog.handler)
    metric = kind(format_only=True, output_dir=str(tmp_path))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert metric.evaluate(3) == {}
    assert not caplog.records and waited == [True]  # for processes that still predict


@pytest.mark.parametrize('format_only', [True, False])
def test_what_cannot_be_written_is_an_error_before_any_score(tmp_path, monkeypatch, format_only):
    metric = IoUMetric(output_dir=str(tmp_path), format_only=format_only)
    metric.dataset_meta = dict(classes=('a', 'b'))
    gate = threading.Event()

    def fail(image, path):
        gate.wait(10)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(iou_metric, 'write_image', fail)
    labels = dict(data=torch.tensor([[[0, 1]]]))
    metric.process({}, [dict(pred_sem_seg=labels, gt_sem_seg=labels, img_path='a.png')])
    gate.set()
    with pytest.raises(OSError, match='No space left on device'):
        metric.evaluate(1)
