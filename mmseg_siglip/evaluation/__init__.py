"""Metrics that MMSegmentation lacks, or counts too kindly."""

from mmseg_siglip.evaluation.iou_metric import IoUMetric

__all__ = ['IoUMetric']
