"""Timing a test, and its rows as a file."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm


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


def write_csv(rows: Sequence[dict], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
