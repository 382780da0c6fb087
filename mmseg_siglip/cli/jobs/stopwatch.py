"""Timing a test."""

from __future__ import annotations

import time

from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from mmseg_siglip.precision import cpu_kind


def machine() -> str:
    """The kind of device that times are of."""
    device = get_device()
    return f'{cpu_kind()} CPU' if device == 'cpu' else device


class Stopwatch(Hook):
    """Shows how far a test is and times it, from the first batch asked for to the last done."""

    def __init__(self, label: str) -> None:
        self.label = label

    def before_test_epoch(self, runner: Runner) -> None:
        _ = getattr(runner.model, 'text', None)  # words are embedded once for a whole data set
        batches = len(runner.test_dataloader)
        self.bar = tqdm(total=batches, desc=self.label, unit='batch', disable=not is_main_process())
        self.begin = self.end = time.perf_counter()

    def after_test_iter(self, runner: Runner, *args, **kwargs) -> None:
        self.end = time.perf_counter()
        self.bar.update()

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self.bar.close()
