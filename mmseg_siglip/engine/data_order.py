"""The order in which a training sees its data, which goes on as it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.dist import get_world_size
from mmengine.runner import BaseLoop

from mmseg_siglip.engine.progress import SEEDS


def order_of(loop: BaseLoop) -> dict[str, int]:
    """What the order depends on beside the data: the sampler's ``seed``, and samples a step."""
    loader = loop.dataloader
    found = dict(batch=(loader.batch_size or 1) * get_world_size())
    seed = getattr(loader.sampler, 'seed', None)
    return dict(found, seed=int(seed)) if seed is not None else found


def restore_order(loop: BaseLoop, saved: Any) -> list[str]:
    """Give a training that has not begun the order of a checkpoint.

    MMEngine draws the sampler's seed before it knows the checkpoint's, so that of the samples that
    are skipped some were not seen, and others come twice.

    Args:
        loop: Of the training.
        saved: What `order_of` gave, from anyone.

    Returns:
        Why the order cannot be the same, a sentence each.
    """
    own, saved = order_of(loop), saved if isinstance(saved, Mapping) else {}
    seed, batch = saved.get('seed'), saved.get('batch')
    if type(seed) is int and 0 <= seed < SEEDS and seed != own.get('seed', seed):
        loop.dataloader.sampler.seed = seed
        if hasattr(loop, 'dataloader_iterator'):
            loop.dataloader_iterator = type(loop.dataloader_iterator)(loop.dataloader)
    if type(batch) is int and batch != own['batch']:
        return [
            f'The checkpoint is of {batch} samples a step, this training of {own["batch"]}: as '
            'many steps are skipped, not as many samples, and the learning rates stay.'
        ]
    return []
