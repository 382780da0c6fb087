"""The words that a model is trained and scored by are the classes of the masks."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.runner import BaseLoop
from torch import nn
from torch.utils.data import Dataset

from mmseg_siglip.datasets.transforms.classes import SelectClasses
from mmseg_siglip.engine.whole_evaluation import inner_datasets
from mmseg_siglip.evaluation.iou_metric import IoUMetric
from mmseg_siglip.evaluation.label_maps import check_order


def check_training_words(model: nn.Module, dataset: Dataset) -> None:
    """Refuse words that masks would be counted for although they mean others.

    Args:
        model: If it has no ``train_vocabulary``, nothing is checked.
        dataset: Its training data; of one without names, nothing is checked.

    Raises:
        ValueError: There are more words or fewer than classes, or in another order.
    """
    vocabulary = getattr(model, 'train_vocabulary', None)
    for inner in inner_datasets(dataset) if vocabulary is not None else ():
        names = mask_classes(inner)
        if not names:
            continue
        if len(names) != len(vocabulary):
            raise ValueError(
                f'model.vocabulary: expected the {len(names)} classes of the masks that '
                f'{type(inner).__name__} gives for training, found {len(vocabulary)} words'
            )
        check_order(vocabulary, names)


def check_scored_words(model: nn.Module, loop: BaseLoop) -> None:
    """Refuse, before the training, words that its validation would refuse after hours.

    Args:
        model: If it has no ``vocabulary``, nothing is checked.
        loop: The validation; without an `IoUMetric` that scores, likewise.

    Raises:
        ValueError: There are more words or fewer than classes, or in another order.
    """
    vocabulary = getattr(model, 'vocabulary', None)
    metrics = loop.evaluator.metrics if hasattr(loop, 'evaluator') else ()
    scores = any(isinstance(metric, IoUMetric) and not metric.format_only for metric in metrics)
    if vocabulary is None or not scores:
        return
    names = (getattr(loop.dataloader.dataset, 'metainfo', None) or {}).get('classes')
    if not names:
        return
    if len(names) != len(vocabulary):
        raise ValueError(
            f"val_dataloader: expected the {len(vocabulary)} classes of the model's vocabulary, "
            f'found {len(names)}'
        )
    check_order(vocabulary, names)


def mask_classes(dataset: Dataset) -> Sequence[str]:
    """What the numbers in the masks of a data set stand for, after its pipeline."""
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    chosen = [t.names for t in transforms if isinstance(t, SelectClasses)]
    return chosen[-1] if chosen else (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()
