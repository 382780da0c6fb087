"""Intersection over union, MMSegmentation's numbers, with bad labels refused."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import mmseg.evaluation
import numpy as np
import torch
from mmengine.logging import print_log
from PIL import Image
from torch import Tensor

from mmseg_siglip.evaluation.label_maps import (
    areas_of,
    count_areas,
    fetched,
    refuse_nan_labels,
    warn_of_a_class_ignored,
)
from mmseg_siglip.evaluation.saving_metric import SavingMetric
from mmseg_siglip.io.files import write_image
from mmseg_siglip.misspelt import refuse_strange_settings
from mmseg_siglip.registry import METRICS
from mmseg_siglip.text.vocabulary import Vocabulary

ABSENT = ('zero', 'skip')


@METRICS.register_module()
class IoUMetric(SavingMetric, mmseg.evaluation.IoUMetric):
    """``mmseg.IoUMetric`` that says what is wrong with an input instead of counting it.

    A label that is neither a class nor ``ignore_index`` would count against the predicted class.
    Predictions are saved to ``output_dir`` as 8-bit PNG, or 16-bit where 255 does not hold them,
    under the names of `name_images`: class indices, of data sets with ``reduce_zero_label`` counted
    from 1; other values of label files (``label_values``, COCO-Stuff's raw ones) are not restored.
    A dataset whose metainfo has ``class_groups``, names to class indices, also gets the mean over
    each group, as ``mIoU_<name>``; classes that neither label nor prediction holds are left out.

    Published numbers mix two definitions of the mean over classes, which differ by a class that
    is predicted somewhere and labelled nowhere. In MMSegmentation and Detectron2 up to 0.6 it
    counts as 0, in Detectron2 since July 2022 it is left out. Both are reported, as ``mIoU`` and
    as ``mIoU_labelled`` or ``mIoU_mmseg``, and the log says which is which.

    Args:
        absent: What ``mIoU`` does with a class that is labelled nowhere: ``zero`` or ``skip``.
        class_groups: Further groups, names to vocabularies of the dataset's class names.
        kwargs: Those of ``mmseg.IoUMetric``.

    Attributes:
        counts: (N, 2, C'), the intersection and the union of each of N images and each class that
            the last mean was over, in pixels.

    Raises:
        ValueError: For a label or a prediction outside the dataset's classes (naming file and
            value), a model whose vocabulary has another number of classes, or an
            ``ignore_index`` that is a class.
    """

    def __init__(
        self,
        *,
        absent: str = 'zero',
        class_groups: Mapping[str, str | Sequence[str]] | None = None,
        **kwargs,
    ) -> None:
        refuse_strange_settings(IoUMetric, kwargs)  # MMSeg's takes any
        super().__init__(**kwargs)
        if absent not in ABSENT:
            raise ValueError(f'IoUMetric: expected absent {" or ".join(ABSENT)}, found {absent!r}')
        self.absent = absent
        self.class_groups = {
            name: Vocabulary.load(words).names for name, words in (class_groups or {}).items()
        }

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
        if self.output_dir is not None or self.format_only:
            known = [one.get('num_classes') or 0 for one in data_samples]
            labels = dict(pred_sem_seg=max([classes, *known]))
            if not self.format_only:
                labels['gt_sem_seg'] = max(classes, self.ignore_index + 1)
            data_samples = fetched(data_samples, **labels)
        if self.format_only:
            for sample in data_samples:
                refuse_nan_labels(sample)
        else:
            names = self.dataset_meta['classes']
            for areas in count_areas(data_samples, names, self.ignore_index):
                counts = (areas.intersection, areas.union, areas.predicted, areas.labelled)
                self.results.append((*counts, areas.ignored))
        for sample in data_samples if self.output_dir is not None else ():
            self._save(sample['pred_sem_seg']['data'].squeeze(0), sample)

    @staticmethod
    def intersect_and_union(
        pred_label: Tensor, label: Tensor, num_classes: int, ignore_index: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Intersection, union, predicted and labelled pixels of each class, (C,) int64 on the CPU;
        see `areas_of`."""
        areas = areas_of(pred_label.long(), label.long(), num_classes, ignore_index).cpu()
        intersection, predicted, labelled = areas[:, :num_classes]
        return intersection, predicted + labelled - intersection, predicted, labelled

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Sum over all samples, see ``mmseg.IoUMetric``."""
        if sum(int(result[3].sum()) for result in results) == 0:
            warnings.warn(
                f'all pixels of all {len(results)} images are ignored, so every metric is nan; '
                f'check ignore_index={self.ignore_index} and the label files',
                stacklevel=2,
            )
        labelled, ignored = (torch.stack([result[i] for result in results]) for i in (3, 4))
        warn_of_a_class_ignored(labelled, ignored, self.dataset_meta['classes'], self.ignore_index)
        results = [result[:4] for result in results]
        metrics = super().compute_metrics(results)
        intersection, union, _, label = (
            sum(result[i] for result in results).numpy() for i in range(4)
        )
        iou = np.divide(intersection, union, out=np.full(len(union), np.nan), where=union > 0)
        counted = label > 0 if self.absent == 'skip' else union > 0
        self.counts = torch.stack([torch.stack(result[:2]) for result in results]).numpy()
        self.counts = self.counts[:, :, counted]
        metrics |= self._group_means(iou)
        if 'mIoU' in metrics:
            self._other_definition(metrics, iou, label > 0)
        return metrics

    def _other_definition(self, metrics: dict, iou: np.ndarray, labelled: np.ndarray) -> None:
        """Add the other mean to `metrics`, exchange both if asked to, and say so."""
        mean = float(iou[labelled].mean()) * 100 if labelled.any() else float('nan')
        other = 'mIoU_labelled'
        metrics[other] = round(mean, 2)
        if self.absent == 'skip':
            metrics['mIoU_mmseg'], metrics['mIoU'] = metrics['mIoU'], metrics.pop(other)
            other = 'mIoU_mmseg'
        absent = int((~labelled & ~np.isnan(iou)).sum())
        rule = dict(zero='counted as 0', skip='left out')
        opposite = dict(zero='skip', skip='zero')[self.absent]
        print_log(
            f'{absent} of {len(iou)} classes are predicted but labelled nowhere; they are '
            f'{rule[self.absent]} in mIoU = {metrics["mIoU"]:.2f} (absent={self.absent!r}) and '
            f'{rule[opposite]} in {other} = {metrics[other]:.2f}.',
            'current',
        )

    def _group_means(self, iou: np.ndarray) -> dict[str, float]:
        groups = dict(self.dataset_meta.get('class_groups', {}))
        classes = list(self.dataset_meta['classes'])
        for group, names in self.class_groups.items():
            unknown = [name for name in names if name not in classes]
            if unknown:
                raise ValueError(f'class_groups.{group}: the dataset has no class {unknown[0]!r}')
            groups[group] = [classes.index(name) for name in names]
        return {
            f'mIoU_{name}': round(float(np.nanmean(iou[list(indices)])) * 100, 2)
            for name, indices in groups.items()
        }

    def _save(self, pred: torch.Tensor, sample: dict) -> None:
        classes = len(self.dataset_meta['classes'])
        known = sample.get('num_classes', classes)
        shift = known == classes and sample.get('reduce_zero_label', False)
        labels = pred.cpu().numpy() + int(shift)
        wide = max(known, classes) > 255
        image = Image.fromarray(labels.astype(np.uint16 if wide else np.uint8))
        path = Path(self.output_dir) / f'{self.image_names(sample["img_path"])}.png'
        self.writers(write_image, image, path)
