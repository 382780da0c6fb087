"""Boundary IoU of label maps, https://arxiv.org/abs/2103.16562.

Shapes: an image of (H, W) pixels, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mmseg_siglip.evaluation.label_maps import fetched, label_maps, warn_of_a_class_ignored
from mmseg_siglip.registry import METRICS


def inner_boundary(mask: np.ndarray, distance: int) -> np.ndarray:
    """Pixels of a mask (H, W) within `distance` of its contour, the image's border included."""
    framed = np.pad(mask.astype(np.uint8), 1)
    inside = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1]
    return (mask != 0) & (inside == 0)


def boundary_counts(
    prediction: np.ndarray, truth: np.ndarray, classes: int, distance: int, ignore_index: int
) -> np.ndarray:
    """Intersection and union of each class's inner boundaries: (C, 2) int64.

    Pixels within `distance` of one that is ignored count nowhere, since what is a boundary there
    is unknown.
    """
    ignored = (truth == ignore_index).astype(np.uint8)
    counted = cv2.dilate(ignored, np.ones((3, 3), np.uint8), iterations=distance) == 0
    counts = np.zeros((classes, 2), np.int64)
    for label in np.union1d(np.unique(prediction), np.unique(truth)):
        if 0 <= label < classes:
            ours, true = (inner_boundary(m == label, distance) for m in (prediction, truth))
            counts[label] = (ours & true & counted).sum(), ((ours | true) & counted).sum()
    return counts


@METRICS.register_module()
class BoundaryIoUMetric(BaseMetric):
    """``mBIoU``, percent: the mean over classes of the IoU of their inner boundaries.

    Pixels are summed over the data set before they are divided, as for mIoU; classes without a
    boundary in truth and prediction are left out. Fat objects do not hide thin errors here.

    Args:
        dilation_ratio: Width of a boundary as a part of the image's diagonal; at least a pixel.
            The paper has 0.02 for objects, 0.005 for whole scenes.
        ignore_index: Label of pixels that count nowhere.

    Raises:
        ValueError: The ratio is not positive.
    """

    def __init__(self, *, dilation_ratio: float = 0.02, ignore_index: int = 255, **kwargs) -> None:
        super().__init__(**kwargs)
        if dilation_ratio <= 0:
            raise ValueError(
                f'BoundaryIoUMetric: expected dilation_ratio above 0, found {dilation_ratio}'
            )
        self.dilation_ratio, self.ignore_index = dilation_ratio, ignore_index

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count each sample's ``pred_sem_seg`` against ``gt_sem_seg``, both (1, H, W).

        Raises:
            ValueError: See `label_maps`.
        """
        classes = len(self.dataset_meta['classes'])
        most = max(classes, self.ignore_index + 1)
        for sample in fetched(data_samples, pred_sem_seg=classes, gt_sem_seg=most):
            maps = label_maps(sample, self.dataset_meta['classes'], self.ignore_index)
            prediction, truth = (labels.numpy() for labels in maps)
            counted = truth[truth != self.ignore_index]
            labelled = torch.from_numpy(np.bincount(counted, minlength=classes))
            ignored = torch.tensor(truth.size - counted.size)
            distance = max(1, round(self.dilation_ratio * float(np.hypot(*truth.shape))))
            counts = boundary_counts(prediction, truth, classes, distance, self.ignore_index)
            self.results.append((torch.from_numpy(counts), labelled, ignored))

    def compute_metrics(self, results: list[tuple[Tensor, Tensor, Tensor]]) -> dict[str, float]:
        """The mean over classes.

        Raises:
            ValueError: No class has a boundary.
        """
        counts, labelled, ignored = map(torch.stack, zip(*results, strict=True))
        warn_of_a_class_ignored(labelled, ignored, self.dataset_meta['classes'], self.ignore_index)
        intersection, union = counts.sum(0).T
        seen = union > 0
        if not seen.any():
            raise ValueError('BoundaryIoUMetric: expected a class with a boundary, found none')
        return dict(mBIoU=float(100 * (intersection[seen] / union[seen].double()).mean()))
