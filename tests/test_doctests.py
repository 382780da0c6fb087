"""The examples of docstrings run and print what they say; every public callable has one."""

from __future__ import annotations

import doctest
import inspect
import warnings
from importlib import import_module

import pytest

from mmseg_siglip import api

FURTHER = (
    'mmseg_siglip.patch_stats:PatchStatisticsFusion',
    'mmseg_siglip.patch_stats:patch_statistics',
    'mmseg_siglip.vlm:build_llava',
    'mmseg_siglip.vlm:build_vision_tower',
)


def callables():
    """Public callables, and the module and name of each."""
    places = [f'mmseg_siglip.api:{name}' for name in api.__all__]
    for place in (*places, *FURTHER):
        module, _, name = place.partition(':')
        found = getattr(import_module(module), name)
        if inspect.isroutine(found) or inspect.isclass(found):
            yield pytest.param(found, id=name)


@pytest.mark.parametrize('found', callables())
def test_the_example(found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(found, found.__name__, globs={})
    assert example.examples, 'expected an Example in its docstring'
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that a new model is untrained
        failed = runner.run(example, out=said.append).failed
    assert not failed, ''.join(said)
