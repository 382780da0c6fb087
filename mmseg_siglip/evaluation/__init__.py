"""Metrics that MMSegmentation lacks, or counts too kindly."""

from mmseg_siglip.evaluation.answer_accuracy import AnswerAccuracy
from mmseg_siglip.evaluation.boundary_iou import BoundaryIoUMetric
from mmseg_siglip.evaluation.depth_metric import DepthMetric
from mmseg_siglip.evaluation.iou_metric import IoUMetric
from mmseg_siglip.evaluation.normal_metric import NormalMetric
from mmseg_siglip.evaluation.referring_metric import RefSegMetric
from mmseg_siglip.evaluation.zero_shot import ZeroShotAccuracy

__all__ = [
    'AnswerAccuracy',
    'BoundaryIoUMetric',
    'DepthMetric',
    'IoUMetric',
    'NormalMetric',
    'RefSegMetric',
    'ZeroShotAccuracy',
]
