"""What metrics count of each image, kept on disk, so that a test goes on where it was killed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import barrier, get_dist_info
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from torch.utils.data import DataLoader, Dataset

from mmseg_siglip.engine.processes import first
from mmseg_siglip.evaluation.saving_metric import SavingMetric
from mmseg_siglip.io.journal import Journal, drop_cut_line, read_lines
from mmseg_siglip.io.manifest import MANIFEST
from mmseg_siglip.io.output_folder import OutputFolder
from mmseg_siglip.io.writers import Writers

FOLDER = '.evaluation'
"""Where results are kept, below the folder of predictions."""

KEYS = {'index', 'results'}


class KeptResults:
    """A journal for each process; a line holds what each metric counted of one image.

    Args:
        folder: Of the predictions.
        settings: What must not change from one run to the next.
        go_on: Whether earlier results count; otherwise they are removed.
    """

    def __init__(
        self, folder: Path, *, settings: Callable[[], Mapping[str, Any]], go_on: bool
    ) -> None:
        self.folder, self.settings, self.go_on = OutputFolder(folder / FOLDER), settings, go_on
        self._journal = Journal(self.folder.path / 'journal' / f'{get_dist_info()[0]:04d}.jsonl')
        self._notes = Writers(threads=1)

    def open(self) -> set[int]:
        """Keep other runs out; returns the images that are done."""

        def claim() -> set[int]:
            self.folder.claim(self.settings(), afresh=not self.go_on)
            for path in self._journals():
                drop_cut_line(path)
            self.folder.share()
            return set(self.read())

        done = first(claim)
        self.folder.share()
        return done

    def add(self, index: int, results: Sequence[Any], files: Iterable[Future] = ()) -> None:
        """Note the results of an image, one for each metric, once its files are written.

        Raises:
            Exception: An earlier image's could not be.
        """
        self._notes(self._note, index, results, tuple(files))

    def _note(self, index: int, results: Sequence[Any], files: Sequence[Future]) -> None:
        for file in files:
            file.result()
        self._journal.append(dict(index=index, results=[to_json(result) for result in results]))

    def read(self) -> dict[int, list]:
        """Results by image."""
        self.finish()
        return {
            record['index']: [from_json(value) for value in record['results']]
            for path in self._journals()
            for _, record in read_lines(path, KEYS)
        }

    def finish(self) -> None:
        """Wait until all is noted.

        Raises:
            Exception: The files of an image could not be written.
        """
        self._notes.finish()

    def close(self) -> None:
        try:
            self.finish()
        finally:
            self.folder.close()

    def _journals(self) -> list[Path]:
        return sorted((self.folder.path / 'journal').glob('*.jsonl'))


def to_json(value: Any) -> Any:
    """A result as JSON holds it, to the last bit."""
    if isinstance(value, torch.Tensor):
        return dict(tensor=value.tolist(), dtype=str(value.dtype).removeprefix('torch.'))
    if isinstance(value, np.ndarray):
        return dict(array=value.tolist(), dtype=value.dtype.name)
    if isinstance(value, dict):
        return dict(items=[[key, to_json(item)] for key, item in value.items()])
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    return value


def from_json(value: Any) -> Any:
    """The inverse of `to_json`, but for tuples, which become lists."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if 'items' in value:
        return {key: from_json(item) for key, item in value['items']}
    if 'tensor' in value:
        return torch.tensor(value['tensor'], dtype=getattr(torch, value['dtype']))
    return np.array(value['array'], value['dtype'])


class KeptEvaluator(Evaluator):
    """Evaluates what is kept.

    Args:
        evaluator: Whose metrics count.
        kept: Where their results go.
        indices: Of the images that this process predicts, in their order.
    """

    def __init__(self, evaluator: Evaluator, kept: KeptResults, indices: Sequence[int]) -> None:
        super().__init__(evaluator.metrics)
        self.dataset_meta = evaluator.dataset_meta
        self.kept, self._indices = kept, iter(indices)

    def process(self, data_samples: Sequence, data_batch: Any = None) -> None:
        super().process(data_samples, data_batch)
        counted = []
        for metric in self.metrics:
            results = metric.results or [None] * len(data_samples)  # None where nothing is scored
            if len(results) != len(data_samples):
                raise ValueError(
                    f'{type(metric).__name__}: expected a result for each of {len(data_samples)} '
                    f'images, found {len(results)}'
                )
            counted.append(results)
            metric.results = []
        saving = [metric for metric in self.metrics if isinstance(metric, SavingMetric)]
        files = [file for metric in saving for file in metric.writers.waiting]
        for results in zip(*counted, strict=True):
            self.kept.add(next(self._indices), results, files)

    def evaluate(self, size: int) -> dict:
        self.kept.finish()
        barrier()
        rank, processes = get_dist_info()
        found = self.kept.read()
        for number, metric in enumerate(self.metrics):
            results = [found[index][number] for index in range(rank, size, processes)]
            metric.results = [result for result in results if result is not None]
        return super().evaluate(size)


class KeepResultsHook(Hook):
    """Keeps the results of a test, and has only those images predicted that have none.

    Args:
        folder: Of the predictions.
        settings: From a runner to what must be the same in both runs, as plain values.
        go_on: Whether an earlier run's results count.
    """

    priority = 'LOWEST'  # the weights are those that predict

    def __init__(
        self, folder: Path, *, settings: Callable[[Any], Mapping[str, Any]], go_on: bool
    ) -> None:
        self.folder, self.settings, self.go_on = folder, settings, go_on

    def before_test_epoch(self, runner: Any) -> None:
        loop = runner.test_loop
        dataset = loop.dataloader.dataset
        self.kept = KeptResults(
            self.folder,
            settings=lambda: self.settings(runner) | dict(images=digest(dataset)),
            go_on=self.go_on,
        )
        earlier = (self.folder / FOLDER / MANIFEST).exists()
        done = self.kept.open()
        if earlier and not self.go_on:
            runner.logger.warning(
                f'{self.folder} holds what an earlier run saved: this one replaces files of the '
                'same name and leaves others there.'
            )
        if self.go_on:
            runner.logger.info(f'{len(done)} of {len(dataset)} images were predicted already.')
        rank, processes = get_dist_info()
        missing = [index for index in range(len(dataset)) if index not in done]
        mine = missing[rank::processes]
        loop.dataloader = over(loop.dataloader, mine)
        loop.evaluator = KeptEvaluator(loop.evaluator, self.kept, mine)

    def after_test_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        self.kept.close()


def over(loader: DataLoader, indices: Sequence[int]) -> DataLoader:
    """A loader like another over some of its images, in this order."""
    names = (
        *('num_workers', 'collate_fn', 'pin_memory', 'timeout', 'worker_init_fn'),
        *('prefetch_factor', 'persistent_workers', 'multiprocessing_context'),
    )
    options = {name: getattr(loader, name) for name in names}
    return DataLoader(loader.dataset, batch_size=loader.batch_size or 1, sampler=indices, **options)


def digest(dataset: Dataset) -> str:
    """Hexadecimal SHA-256 of the paths of a data set's images, in order."""
    found = sha256()
    for index in range(len(dataset)):
        found.update(f'{dataset.get_data_info(index).get("img_path")}\n'.encode())
    return found.hexdigest()
