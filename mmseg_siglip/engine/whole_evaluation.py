"""An evaluation sees every sample of its data set, and comes to an end."""

from __future__ import annotations

from mmengine.dataset import InfiniteSampler
from mmengine.runner import BaseLoop


def require_whole(loop: BaseLoop, part: str) -> BaseLoop:
    """`loop`, if its data loader gives all samples.

    Args:
        loop: Of a validation or test.
        part: The loader's name in a config.

    Raises:
        ValueError: It leaves out the last ones, or begins again for ever.
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
    return loop
