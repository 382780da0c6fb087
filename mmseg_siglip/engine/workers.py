"""Processes that do not outlive the one that they work for, however it ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial

from torch.utils.data import DataLoader

INTERVAL = 1.0  # seconds between two looks


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


def end_with(parent: int) -> None:
    """End this process when `parent` is gone, or the process that started this one for it."""
    starter = os.getppid()

    def watch() -> None:
        while os.getppid() == starter and _is_there(parent):
            time.sleep(INTERVAL)
        os._exit(1)

    threading.Thread(target=watch, name='watch of the parent', daemon=True).start()


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
