"""What a metric is given, and what is wrong with it, said instead of counted.

Shapes: an image of (H, W) pixels, C classes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmseg_siglip.device import to_host, upload
from mmseg_siglip.models.labelling import compact
from mmseg_siglip.text.vocabulary import Vocabulary, same


def refuse_nan(prediction: Tensor, name: str) -> None:
    """Refuse what a metric would go on with: NaN compares false and converts to some integer.

    Raises:
        ValueError: It holds NaN or infinity; names the image.
    """
    if prediction.is_floating_point() and not prediction.isfinite().all():
        raise ValueError(
            f'{name}: expected a prediction of finite numbers, found NaN or infinity; are the '
            "model's weights damaged?"
        )


def refuse_nan_labels(sample: Mapping) -> None:
    """`refuse_nan` of a sample's labels, and of what they go by where it is kept, as
    MMSegmentation's segmentors do."""
    for key in ('pred_sem_seg', 'seg_logits'):
        if key in sample:
            refuse_nan(sample[key]['data'], sample.get('img_path', 'a sample'))


def truth_of(sample: Mapping, key: str, loader: str) -> Tensor:
    """What an image is scored against.

    Args:
        sample: Of the image.
        key: Of the truth.
        loader: The transform that loads it.

    Raises:
        ValueError: It was not loaded.
    """
    if key not in sample:
        raise ValueError(
            f'{sample.get("img_path", "a sample")} has nothing to be scored against ({key}): add '
            f'{loader} to the pipeline, or set format_only=True and output_dir in the metric to '
            'save predictions only'
        )
    return sample[key]['data']


def label_maps(sample: Mapping, names: Sequence[str], ignore_index: int) -> tuple[Tensor, Tensor]:
    """A sample's prediction and truth, (H, W) int64, on the device of the prediction.

    Raises:
        ValueError: There is no truth, one holds a label that is no class, they differ in size, or
            the model has another number of classes or another order.
    """
    classes = len(names)
    refuse_nan_labels(sample)
    prediction, truth = _pair(sample, names)
    file = sample.get('img_path', 'a sample')
    _check_range(prediction, classes, f'the prediction for {file}')
    file = sample.get('seg_map_path', file)
    counted = truth[truth != ignore_index]
    if not counted.numel():
        warnings.warn(f'every pixel of {file} is ignored', stacklevel=2)
    hint = '; a value that means none is named in void_values of the dataset, or is ignore_index'
    _check_range(counted, classes, file, hint)
    return prediction, truth


def _pair(sample: Mapping, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """`label_maps` of which no value was looked at."""
    classes, file = len(names), sample.get('img_path', 'a sample')
    known = sample.get('num_classes')
    if known is not None and known != classes:
        raise ValueError(
            f"the model's vocabulary has {known} classes, the dataset {classes} (at {file})"
        )
    if sample.get('vocabulary') is not None:
        check_order(sample['vocabulary'], names)
    prediction = sample['pred_sem_seg']['data'].squeeze(0)
    truth = truth_of(sample, 'gt_sem_seg', 'LoadAnnotations').squeeze(0)
    prediction, truth = prediction.long(), upload(truth, prediction.device).long()
    if prediction.shape != truth.shape:
        raise ValueError(
            f'{file}: expected a prediction of the truth size {tuple(truth.shape)}, '
            f'found {tuple(prediction.shape)}'
        )
    return prediction, truth


@dataclass(frozen=True)
class Areas:
    """Pixels of one image by class, (C,) int64 each, on the CPU.

    Attributes:
        intersection, predicted, labelled: Of the pixels that are not ignored.
        ignored: (), those that are.
    """

    intersection: Tensor
    predicted: Tensor
    labelled: Tensor
    ignored: Tensor

    @property
    def union(self) -> Tensor:
        return self.predicted + self.labelled - self.intersection


def count_areas(samples: Sequence[Mapping], names: Sequence[str], ignore_index: int) -> list[Areas]:
    """The pixels of each of some samples, counted where the predictions lie; a GPU is waited for
    once.

    Raises:
        ValueError: See `label_maps`.
    """
    classes = len(names)
    counted, odd = [], []
    for sample in samples:
        pair = _pair(sample, names)
        counted.append(areas_of(*pair, classes, ignore_index))
        odd.append(_is_odd(*pair, sample, classes))
    *counts, odd = to_host([*counted, torch.stack(odd)]) if counted else [torch.empty(0)]
    found = []
    for sample, count, strange in zip(samples, counts, odd.tolist(), strict=True):
        intersection, predicted, labelled = count[:, :classes]
        ignored, outside = count[2, classes + 1], count[2, classes]
        if strange or outside or ignored == count[2].sum():
            label_maps(sample, names, ignore_index)  # says what is wrong
        found.append(Areas(intersection, predicted, labelled, ignored))
    return found


def areas_of(prediction: Tensor, truth: Tensor, classes: int, ignore_index: int) -> Tensor:
    """Pixels (3, C + 2) int64 of the intersection, the prediction and the truth, of maps (H, W)
    int64: of each class, of truth that is no class, and of what is ignored.

    MMSeg counts in float32, which ends at 16 777 216 pixels of a class in an image.
    """
    prediction, truth = prediction.flatten(), truth.flatten()
    ignored = truth == ignore_index
    labelled = truth.where((truth >= 0) & (truth < classes), classes)
    labelled = labelled.where(~ignored, classes + 1)
    inside = (prediction >= 0) & (prediction < classes) & ~ignored
    predicted = prediction.where(inside, classes + 1)
    both = predicted.where(prediction == truth, classes + 1)
    places = torch.stack([both, predicted, labelled])
    return places.new_zeros(3, classes + 2).scatter_add_(
        1, places, places.new_ones(()).expand_as(places)
    )


def _is_odd(prediction: Tensor, truth: Tensor, sample: Mapping, classes: int) -> Tensor:
    """(), bool, whether a prediction holds what is no class or goes by what is no number."""
    flags = [((prediction < 0) | (prediction >= classes)).any()]
    for key in ('pred_sem_seg', 'seg_logits'):
        if key in sample and sample[key]['data'].is_floating_point():
            flags.append(~sample[key]['data'].isfinite().all().to(prediction.device))
    return torch.stack(flags).any()


def fetched(samples: Sequence[Mapping], *keys: str, **labels: int) -> list[dict]:
    """Samples whose maps lie on the CPU, with one wait for a GPU.

    Args:
        samples: The samples, which stay as they are.
        keys: Of the maps. Of ``seg_logits``, if it is there, only that all are numbers is fetched.
        labels: Keys of label maps, and how many labels each should have at the most: they leave a
            GPU in the smallest format that holds as many. With others it is waited for again.
    """
    samples = [dict(sample) for sample in samples]
    for sample in samples:
        if 'seg_logits' in sample and sample['seg_logits']['data'].is_cuda:
            finite = sample['seg_logits']['data'].isfinite().all()
            sample['seg_logits'] = dict(data=torch.where(finite, 0.0, math.nan))
    keys = (*keys, *labels, 'seg_logits')
    places = [(sample, key) for sample in samples for key in keys if sample.get(key)]
    given = [sample[key]['data'].detach() for sample, key in places]
    small = [
        narrow(data, labels[key]) if key in labels and data.is_cuda else data
        for data, (_, key) in zip(given, places, strict=True)
    ]
    narrowed = [i for i, data in enumerate(small) if data is not given[i]]
    kept = [(small[i] == given[i]).all() for i in narrowed]
    maps = to_host([*small, *([torch.stack(kept)] if kept else [])])
    lost = [i for i, same in zip(narrowed, maps.pop() if kept else (), strict=True) if not same]
    for i, data in zip(lost, to_host([given[i] for i in lost]), strict=True):
        maps[i] = data
    for (sample, key), own, data in zip(places, given, maps, strict=True):
        sample[key] = dict(sample[key], data=data.to(own.dtype))
    return samples


def narrow(data: Tensor, labels: int) -> Tensor:
    """`compact` labels, or `data` itself where that would be no smaller or it holds no integers."""
    small = data if data.is_floating_point() else compact(data, labels)
    return small if small.itemsize < data.itemsize else data


def check_order(vocabulary: Vocabulary, names: Sequence[str]) -> None:
    """Refuse a vocabulary that has a data set's classes in another order.

    Args:
        vocabulary: What a model looks for.
        names: The data set's classes.

    Raises:
        ValueError: A class is called as another one of the data set, and not as its own.
    """
    place = {same(name): index for index, name in reversed(list(enumerate(names)))}
    ours = zip(vocabulary.names, vocabulary.classes, names, strict=False)
    for index, (called, words, name) in enumerate(ours):
        other = place.get(same(called), index)
        if other != index and same(name) not in map(same, words):
            raise ValueError(
                f"class {index} of the model's vocabulary is {called!r}, which is class {other} "
                f'of the data set, whose class {index} is {name!r}: expected its order'
            )


def _check_range(values: Tensor, classes: int, what: str, hint: str = '') -> None:
    outside = values[(values < 0) | (values >= classes)]
    if outside.numel():
        raise ValueError(
            f'{what} holds label {int(outside[0])}; the {classes} classes go from 0 to '
            f'{classes - 1}{hint}'
        )


def warn_of_a_class_ignored(
    labelled: Tensor, ignored: Tensor, names: Sequence[str], ignore_index: int
) -> None:
    """Say where a class may be hidden under the ignored value, as in masks of 0 and 255.

    It may be where one class alone is labelled nowhere, or one alone somewhere, and pixels are
    ignored.

    Args:
        labelled: (N, C) pixels of each class in the truth of N images.
        ignored: (N,) pixels that count nowhere.
        names: Of the classes.
        ignore_index: Their label.
    """
    seen = labelled.sum(0) > 0
    absent = [name for name, found in zip(names, seen.tolist(), strict=True) if not found]
    if not ignored.any() or not seen.any() or 1 not in (len(absent), int(seen.sum())):
        return
    if not absent:
        return
    share = 100 * ignored.sum() / (labelled.sum() + ignored.sum())
    values = list(range(len(names)))
    values[names.index(absent[0])] = ignore_index
    warnings.warn(
        f'{", ".join(absent[:3])}: labelled in no image, while {share:.1f} % of the pixels, in '
        f'{int((ignored > 0).sum())} of {len(ignored)} images, hold the ignored value '
        f'{ignore_index}; if these are of that class, say so in the data set, as in '
        f"FolderDataset's label_values={values if len(names) < 10 else '[...]'}",
        stacklevel=2,
    )
