"""Processes that do not outlive the one that they work for, however it ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from torch.utils.data import DataLoader

from mmseg_siglip.ending import end_with


def guarded(loader: DataLoader) -> DataLoader:
    """`loader`, whose workers end with this process.

    PyTorch's own watch leaves workers that wait for a lock or a full pipe, which nobody will open.
    """
    if loader.num_workers:
        loader.worker_init_fn = partial(_begin, os.getpid(), loader.worker_init_fn)
    return loader


def _begin(parent: int, initialise: Callable[[int], None] | None, worker: int) -> None:
    end_with(parent)
    if initialise is not None:
        initialise(worker)
