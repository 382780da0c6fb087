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
from mmseg_siglip.text.vocabulary import Vocabulary


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
        masks = f'the masks that {type(inner).__name__} gives for training'
        check_words(vocabulary, mask_classes(inner), 'vocabulary', masks)


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
    option = getattr(model, 'words_option', 'vocabulary')
    check_words(vocabulary, dataset_classes(loop.dataloader.dataset), option, 'val_dataloader')


def check_words(vocabulary: Vocabulary, names: Sequence[str], option: str, source: str) -> None:
    """Refuse words that are not the classes of a data set, if it has names.

    Args:
        vocabulary: The words.
        names: The classes.
        option: Of the model, that holds the words.
        source: What has the classes.

    Raises:
        ValueError: There are more words or fewer than classes, or in another order.
    """
    if not names:
        return
    if len(names) != len(vocabulary):
        raise ValueError(
            f'model.{option}: expected the {len(names)} classes of {source}, found '
            f'{len(vocabulary)} words'
        )
    check_order(vocabulary, names)


def mask_classes(dataset: Dataset) -> Sequence[str]:
    """What the numbers in the masks of a data set stand for, after its pipeline."""
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    chosen = [t.names for t in transforms if isinstance(t, SelectClasses)]
    return chosen[-1] if chosen else dataset_classes(dataset)


def dataset_classes(dataset: Dataset) -> Sequence[str]:
    return (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()
