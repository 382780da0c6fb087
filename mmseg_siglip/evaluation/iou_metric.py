"""Intersection over union, MMSegmentation's numbers, with bad labels refused."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import mmseg.evaluation
import numpy as np
import torch
from PIL import Image

from mmseg_siglip.registry import METRICS


@METRICS.register_module()
class IoUMetric(mmseg.evaluation.IoUMetric):
    """``mmseg.IoUMetric`` that says what is wrong with an input instead of counting it.

    A label that is neither a class nor ``ignore_index`` would count against the predicted class.
    Predictions are saved to ``output_dir`` as 8-bit PNG, or 16-bit where 255 does not hold them.
    A dataset whose metainfo has ``class_groups``, names to class indices, also gets the mean over
    each group, as ``mIoU_<name>``; classes that neither label nor prediction holds are left out.
    Arguments are those of ``mmseg.IoUMetric``.

    Raises:
        ValueError: For a label or a prediction outside the dataset's classes (naming file and
            value), a model whose vocabulary has another number of classes, or an
            ``ignore_index`` that is a class.
    """

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count each sample, and save its prediction when asked to.

        Args:
            data_batch: Not used.
            data_samples: Each with ``pred_sem_seg`` and (unless ``format_only``) ``gt_sem_seg``,
                data (1, H, W). ``num_classes``, if there, is the size of the model's vocabulary.
        """
        classes = len(self.dataset_meta['classes'])
        if 0 <= self.ignore_index < classes:
            raise ValueError(
                f'ignore_index={self.ignore_index} is one of the {classes} classes; '
                'set it to 65535 in the metric and in LoadAnnotations'
            )
        for sample in data_samples:
            file = sample.get('img_path', 'an image without a path')
            self._check_vocabulary(sample, classes, file)
            pred = sample['pred_sem_seg']['data'].squeeze(0)
            self._check_range(pred, classes, f'the prediction for {file}')
            if not self.format_only:
                label = sample['gt_sem_seg']['data'].squeeze(0).to(pred.device).long()
                counted = label[label != self.ignore_index]
                file = sample.get('seg_map_path', file)
                if counted.numel() == 0:
                    warnings.warn(f'every pixel of {file} is ignored', stacklevel=2)
                self._check_range(counted, classes, file)
                counts = self.intersect_and_union(pred.long(), label, classes, self.ignore_index)
                self.results.append(counts)
            if self.output_dir is not None:
                self._save(pred, sample)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Sum over all samples, see ``mmseg.IoUMetric``."""
        if not self.format_only and sum(int(result[3].sum()) for result in results) == 0:
            warnings.warn(
                f'all pixels of all {len(results)} images are ignored, so every metric is nan; '
                f'check ignore_index={self.ignore_index} and the label files',
                stacklevel=2,
            )
        metrics = super().compute_metrics(results)
        if not self.format_only:
            metrics |= self._group_means(results)
        return metrics

    def _group_means(self, results: list) -> dict[str, float]:
        intersection, union = (sum(result[i] for result in results).numpy() for i in (0, 1))
        iou = np.divide(intersection, union, out=np.full(len(union), np.nan), where=union > 0)
        groups = self.dataset_meta.get('class_groups', {})
        return {
            f'mIoU_{name}': round(float(np.nanmean(iou[list(indices)])) * 100, 2)
            for name, indices in groups.items()
        }

    @staticmethod
    def _check_vocabulary(sample: dict, classes: int, file: str) -> None:
        known = sample.get('num_classes')
        if known is not None and known != classes:
            raise ValueError(
                f"the model's vocabulary has {known} classes, the dataset {classes} (at {file})"
            )

    @staticmethod
    def _check_range(values: torch.Tensor, classes: int, what: str) -> None:
        outside = values[(values < 0) | (values >= classes)]
        if outside.numel():
            raise ValueError(
                f'{what} holds label {int(outside[0])}; the {classes} classes go from 0 to '
                f'{classes - 1}'
            )

    def _save(self, pred: torch.Tensor, sample: dict) -> None:
        labels = pred.cpu().numpy() + int(sample.get('reduce_zero_label', False))
        wide = len(self.dataset_meta['classes']) > 255
        image = Image.fromarray(labels.astype(np.uint16 if wide else np.uint8))
        image.save(Path(self.output_dir) / f'{Path(sample["img_path"]).stem}.png')
