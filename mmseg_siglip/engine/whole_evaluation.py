"""An evaluation sees every sample of its data set as it is; it and an epoch come to an end."""

from __future__ import annotations

from collections.abc import Iterator

from mmengine.dataset import InfiniteSampler
from mmengine.runner import BaseLoop, EpochBasedTrainLoop
from torch.utils.data import Dataset

from mmseg_siglip.datasets.referring import PhraseDataset

RANDOM = ('Random', 'PhotoMetricDistortion')
"""How the names of transforms begin that draw anew for each sample."""


def require_whole(loop: BaseLoop, part: str) -> BaseLoop:
    """`loop`, if its data loader gives all samples, the same ones each time.

    Args:
        loop: Of a validation or test.
        part: The loader's name in a config.

    Raises:
        ValueError: It leaves out the last ones, begins again for ever, or draws what it gives.
    """
    loader = loop.dataloader
    if isinstance(loader.sampler, InfiniteSampler):
        raise ValueError(f'{part}.sampler: expected one that ends, found InfiniteSampler')
    left = len(loader.sampler) % loader.batch_size if loader.drop_last else 0
    if left:
        raise ValueError(
            f'{part}.drop_last: expected False, found True, by which {left} of '
            f'{len(loader.sampler)} samples would not be scored'
        )
    for dataset in inner_datasets(loader.dataset):
        refuse_chance(dataset, part)
    return loop


def require_end(loop: BaseLoop) -> BaseLoop:
    """`loop`, if each of its epochs comes to an end; MMEngine's would stay in the first for ever.

    Args:
        loop: Of a training.

    Raises:
        ValueError: It goes by epochs, and its samples begin again for ever.
    """
    sampler = loop.dataloader.sampler
    if isinstance(loop, EpochBasedTrainLoop) and isinstance(sampler, InfiniteSampler):
        raise ValueError(
            'train_dataloader.sampler: expected one that ends (DefaultSampler) for a training by '
            'epochs, found InfiniteSampler'
        )
    return loop


def inner_datasets(dataset: Dataset) -> Iterator[Dataset]:
    """A data set, or those that it joins or repeats."""
    inside = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inside == [None]:
        yield dataset
        return
    for inner in inside:
        yield from inner_datasets(inner)


def refuse_chance(dataset: Dataset, part: str) -> None:
    """Refuse a data set that gives other samples each time.

    A mirrored image is worse: models turn their prediction back, and labels loaded before stay
    mirrored.

    Raises:
        ValueError: It draws phrases, or transforms at random.
    """
    if isinstance(dataset, PhraseDataset) and not dataset.test_mode:
        raise ValueError(
            f'{part}.dataset.test_mode: expected True, found False, by which '
            f'{dataset.phrases_per_image} of the phrases of each image would be drawn and the '
            'others not scored'
        )
    pipeline = getattr(dataset, 'pipeline', None)
    for transform in getattr(pipeline, 'transforms', ()):
        name = type(transform).__name__
        if name.startswith(RANDOM):
            raise ValueError(
                f'{part}.dataset.pipeline: expected the same sample each time, found {name}, by '
                'which scores would change from run to run'
            )
