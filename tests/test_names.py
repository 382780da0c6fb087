"""A name means one thing in the package, and no class of ours bears one of transformers' names."""

from __future__ import annotations

import ast
from collections import defaultdict

import pytest
import transformers

COMMANDS = {'add_arguments', 'convert', 'kept', 'main', 'parse', 'run'}
"""Every command, or conversion, has these."""

KNOWN = {
    'benchmark',
    'compose',
    'measure',
    'table',
}
"""Public functions and classes that more than one module defines today. The set only shrinks."""


@pytest.fixture(scope='module')
def definitions(repository):
    """Modules by the name of each public function and class that they define."""
    found = defaultdict(list)
    for path in repository.glob('mmseg_siglip/**/*.py'):
        for node in ast.parse(path.read_text(encoding='utf-8')).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith('_'):
                found[node.name].append(str(path.relative_to(repository)))
    return found


def test_no_name_is_defined_twice(definitions):
    twice = {name for name, paths in definitions.items() if len(paths) > 1} - COMMANDS
    assert not twice - KNOWN, {name: definitions[name] for name in twice - KNOWN}
    assert not KNOWN - twice, 'these mean one thing now: take them out of KNOWN'


def test_no_name_of_transformers(definitions):
    theirs = {name for name in dir(transformers) if name[0].isupper()}
    assert {'LlavaModel', 'SiglipModel'} <= theirs
    assert not theirs & set(definitions)
