"""Whether the evaluation split of a benchmark is all there, before hours are spent on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope

from mmseg_siglip.cli.common import one_line
from mmseg_siglip.cli.jobs.config import require_data
from mmseg_siglip.datasets.benchmarks import Benchmark
from mmseg_siglip.registry import DATASETS

SAMPLES = 64
"""Images of a split whose labels are looked into, evenly spaced."""
SHOWN = 3
PATHS = ('img_path', 'seg_map_path', 'depth_map_path')


def check_split(cfg: Config, benchmark: Benchmark, *, incomplete: bool = False) -> int:
    """Look for every file, count, and look into the labels of `SAMPLES` images.

    Args:
        cfg: Its ``test_dataloader`` is looked at.
        benchmark: What is expected.
        incomplete: Let a part of the split pass.

    Returns:
        The number of samples.

    Raises:
        ValueError: Something is not as expected; the message says what makes it so.
    """
    init_default_scope(cfg.get('default_scope', 'mmseg_siglip'))
    try:
        require_data(cfg.test_dataloader.dataset)
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        dataset.full_init()
        found = _count(dataset)
        _require_files(dataset)
        if found != benchmark.samples and not (incomplete and 0 < found < benchmark.samples):
            raise ValueError(
                f'{cfg.test_dataloader.dataset.data_root} has {found} samples in its evaluation '
                f'split, expected {benchmark.samples}'
            )
        _require_labels(dataset, len(dataset.metainfo.get('classes', ())), _ignored(cfg))
    except (ValueError, OSError) as error:
        raise ValueError(
            f'{one_line(error).rstrip(".")}; what makes this layout: {benchmark.made_by}'
        ) from error
    return found


def _count(dataset: BaseDataset) -> int:
    """Samples as the field counts them: images, or phrases."""
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    return sum(len(info['text']) if 'text' in info else 1 for info in infos)


def _require_files(dataset: BaseDataset) -> None:
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    paths = (info[key] for info in infos for key in PATHS if info.get(key))
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        shown = ', '.join(missing[:SHOWN]) + (', ...' if len(missing) > SHOWN else '')
        raise ValueError(f'{len(missing)} files of the split are not there: {shown}')


def _ignored(cfg: Config) -> int:
    evaluators = cfg.test_evaluator
    first = evaluators[0] if isinstance(evaluators, Sequence) else evaluators
    return first.get('ignore_index', 255)


def _require_labels(dataset: BaseDataset, classes: int, ignored: int) -> None:
    """Refuse values that are no class, and labels that are all void."""
    labelled = False
    indices = np.linspace(0, len(dataset) - 1, min(SAMPLES, len(dataset))).round().astype(int)
    for index in indices.tolist():
        sample = dataset[index]['data_samples']
        if 'gt_sem_seg' not in sample:
            return
        values = sample.gt_sem_seg.data.unique()
        values = values[values != ignored]
        labelled = labelled or len(values) > 0
        if len(values) and (values[-1] >= classes or values[0] < 0):
            where = getattr(sample, 'seg_map_path', sample.img_path)
            raise ValueError(
                f'{where} holds label {int(values[-1])}, expected classes 0 to {classes - 1} '
                f'or {ignored} for void'
            )
    if not labelled:
        raise ValueError(f'no pixel of {len(indices)} label maps has a class')
