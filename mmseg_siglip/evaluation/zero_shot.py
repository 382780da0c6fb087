"""Zero-shot classification of whole images whose truth is a label map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric

from mmseg_siglip.evaluation.label_maps import truth_of
from mmseg_siglip.registry import METRICS


@METRICS.register_module()
class ZeroShotAccuracy(BaseMetric):
    """How often the class that an image is nearest to is really in it, in percent.

    Args:
        least_share: Part of the image that a class must cover to count as present.
    """

    default_prefix = 'zero_shot'

    def __init__(self, *, least_share: float = 0.01, **kwargs) -> None:
        super().__init__(**kwargs)
        self.least_share = least_share

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Samples carry ``pred_label`` and ``gt_sem_seg``, data (1, H, W)."""
        for sample in data_samples:
            classes = len(self.dataset_meta['classes'])
            label = truth_of(sample, 'gt_sem_seg', 'LoadAnnotations')
            share = (label == sample['pred_label']).float().mean().item()
            present = len(torch.unique(label[(0 <= label) & (label < classes)])) / classes
            self.results.append((share >= self.least_share, present))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """``accuracy``, and ``chance``: that of guessing a class without looking."""
        hits, chances = zip(*results, strict=True)
        return dict(accuracy=100 * sum(hits) / len(hits), chance=100 * sum(chances) / len(chances))
