"""Mean intersection over union of groups of classes, such as those seen in training or not."""

from __future__ import annotations

import numpy as np

from mmseg_siglip.evaluation.iou_metric import IoUMetric
from mmseg_siglip.registry import METRICS


@METRICS.register_module()
class GroupedIoUMetric(IoUMetric):
    """`IoUMetric` that also gives the mean over each of the dataset's ``class_groups``.

    The dataset's metainfo maps the name of a group to the indices of its classes. A class that is
    neither in a label nor predicted is left out, as in the mean over all.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Adds ``mIoU_<group>``, in percent.

        Raises:
            ValueError: If the dataset names no groups.
        """
        groups = self.dataset_meta.get('class_groups')
        if not groups:
            raise ValueError(
                "GroupedIoUMetric: expected 'class_groups' in the dataset's metainfo, found none"
            )
        metrics = super().compute_metrics(results)
        if self.format_only:
            return metrics
        intersect, union = (sum(result[k] for result in results).numpy() for k in (0, 1))
        with np.errstate(invalid='ignore'):
            iou = 100 * intersect / union
        for name, indices in groups.items():
            metrics[f'mIoU_{name}'] = round(float(np.nanmean(iou[list(indices)])), 2)
        return metrics
