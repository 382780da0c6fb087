"""docs/coming_from.md shows commands that our parsers take, settings and calls that there are."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from importlib import import_module

import pytest
from commands import parse
from mmengine.config import Config

from mmseg_siglip.cli.main import COMMANDS

PAGE = 'docs/coming_from.md'


def blocks(repository, language):
    return re.findall(rf'```{language}\n(.*?)```', (repository / PAGE).read_text(), re.DOTALL)


def words_of(line):
    """Our command and its arguments; of torchrun's, the tool's."""
    words = shlex.split(line)
    if words[0] == 'torchrun':
        tool = next(place for place, word in enumerate(words) if word.startswith('tools/'))
        return words[tool].removeprefix('tools/').removesuffix('.py'), words[tool + 1 :]
    assert words[0] == 'mmseg-siglip', line
    return words[1], words[2:]


def test_commands(repository):
    lines = [line for block in blocks(repository, 'bash') for line in block.splitlines()]
    assert len(lines) > 20
    used = set()
    for line in lines:
        name, words = words_of(line)
        args = parse(name, words)
        used.add(name)
        for config in (getattr(args, 'config', None),):
            if config is not None:
                options = getattr(args, 'cfg_options', None) or {}
                Config.fromfile(repository / config).merge_from_dict(options)
    assert used == {'segment', 'refer', 'depth', 'ask', 'train', 'test', 'benchmark', 'convert'} | {
        'patch-stats'
    }
    assert used <= set(COMMANDS)


@pytest.mark.parametrize('number', range(4))
def test_snippets(repository, number):
    """Imports are made, and what they bring is called with arguments that it has."""
    snippets = blocks(repository, 'python')
    assert len(snippets) == 4
    tree = ast.parse(snippets[number])
    known = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            known |= {
                alias.name: getattr(import_module(node.module), alias.name) for alias in node.names
            }
        elif isinstance(node, ast.Import):
            known |= {alias.name: import_module(alias.name) for alias in node.names}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    checked = 0
    for call in calls:
        name, *attributes = ast.unparse(call.func).split('.')
        if name not in known or name == 'torch':
            continue
        function = known[name]
        for attribute in attributes:
            function = getattr(function, attribute)
        keywords = {keyword.arg: None for keyword in call.keywords}
        inspect.signature(function).bind(*[None] * len(call.args), **keywords)
        checked += 1
    assert checked


def test_its_aliases_mean_what_the_page_says(repository):
    """Calls of the page that are no command and no snippet."""
    import torch

    from mmseg_siglip import depth_to_patch_stats
    from mmseg_siglip.patch_stats import patch_statistics

    depth = torch.rand(1, 32, 48) + 1
    found = depth_to_patch_stats(depth, patch_size=16, stats=('mean', 'var', 'grad'))
    same = patch_statistics(depth, patch_size=16, names=('mean', 'var', 'grad'))
    assert found.names == ('mean', 'var', 'grad') and torch.equal(found.values, same.values)
    with pytest.raises(ValueError, match='stats and names are the same: expected one, found both'):
        depth_to_patch_stats(depth, patch_size=16, stats=('mean',), names=('var',))
