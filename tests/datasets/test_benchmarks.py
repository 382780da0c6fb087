"""Benchmarks go by the names of configs, and what brings their data into shape is there."""

from __future__ import annotations

from pathlib import Path

import mmseg

from mmseg_siglip.datasets.benchmarks import _AS_IS, BENCHMARKS, MMSEG, OURS


def test_names_are_of_configs(repository):
    configs = {file.stem for file in (repository / 'configs').glob('*/*.py')}
    assert BENCHMARKS.keys() <= configs


def test_converters_are_there(repository):
    shipped = Path(mmseg.__file__).parents[1]
    for name, benchmark in BENCHMARKS.items():
        assert benchmark.samples > 0
        for step in benchmark.made_by.split(', then '):
            root = shipped if step.startswith(MMSEG) else repository
            assert step == _AS_IS or (root / step).is_file(), (name, step)
            assert step == _AS_IS or step.startswith((MMSEG, OURS))
