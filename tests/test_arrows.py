"""Which part of the package imports which: arrows point one way, and there are no circles.

Imports inside functions count; those for type checkers alone do not.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = 'mmseg_siglip'

LAYERS = (
    ('compat', 'configs', 'ending', 'later', 'lazy', 'versions'),
    ('registry', 'misspelt'),
    ('device', 'kept', 'precision', 'io', 'weights', 'text', 'patch_stats'),
    (
        'models.adapters',
        'models.compiled',
        'models.finite',
        'models.labelling',
        'models.learnt_with',
        'models.sizes',
    ),
    ('datasets', 'evaluation', 'engine', 'models.data_preprocessor'),
    ('models.backbones',),
    (
        'models.decode_heads',
        'models.dense',
        'models.depth_models',
        'models.finetune',
        'models.guides',
        'models.held_weights',
        'models.lora',
        'models.losses',
        'models.postprocessors',
        'models.regions',
        'models.scores',
        'models.upsamplers',
        'models.sam',
        'models.windows',
    ),
    ('models.segmentors', 'models.pretrainers', 'vlm'),
    ('onnx',),
    ('models', 'api'),
    ('apis', 'labelling'),
    ('cli', 'web', '__main__', ''),
)
"""Rooms from the ground up. A module imports from its own layer and those below."""

KNOWN: set[tuple[str, str]] = {
    # When MMEngine is imported, its loaders of checkpoints are replaced by ours.
    ('compat', 'weights.schemes'),
}
"""Arrows that point the wrong way today. The set only shrinks."""


def name_of(path: Path, root: Path) -> str:
    return '.'.join(path.relative_to(root).with_suffix('').parts).removesuffix('.__init__')


def imports(node: ast.AST) -> Iterator[tuple[str, str | None]]:
    """Module and, of ``from module import name``, the name."""
    if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test):
        return
    if isinstance(node, ast.Import):
        yield from ((alias.name, None) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert not node.level, 'expected absolute imports'
        yield from ((node.module, alias.name) for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from imports(child)


def graph_of(root: Path) -> dict[str, set[str]]:
    """Each module of the package at `root`, without the package's name, and what it imports."""
    files = {name_of(path, root): path for path in root.rglob('*.py')}
    files[''] = files.pop('__init__')
    graph = {}
    for name, path in files.items():
        graph[name] = set()
        for module, item in imports(ast.parse(path.read_text(encoding='utf-8'))):
            head, _, rest = module.partition('.')
            if head == PACKAGE:
                longer = f'{rest}.{item}'.lstrip('.')
                graph[name].add(longer if longer in files else rest)
    return graph


def room_of(module: str) -> str:
    """``models.backbones`` of ``models.backbones.clip``, ``io`` of ``io.image``; whatever is run by
    ``python -m`` stands at the top."""
    parts = module.split('.')
    if parts[-1] == '__main__':
        return '__main__'
    return '.'.join(parts[: 2 if parts[0] == 'models' else 1])


def upward(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    layer = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    return {
        (module, other)
        for module, others in graph.items()
        for other in others
        if layer[room_of(other)] > layer[room_of(module)]
    }


@pytest.fixture(scope='module')
def graph(repository):
    return graph_of(repository / PACKAGE)


def test_every_room_has_a_layer(graph):
    assert {room_of(module) for module in graph} <= {room for rooms in LAYERS for room in rooms}


def test_no_arrow_points_up(graph):
    found = upward(graph)
    assert not found - KNOWN, 'these imports are new'
    assert not KNOWN - found, 'these are gone: take them out of KNOWN'


def test_no_circles(graph):
    """Neither of modules nor of rooms; a package stands for what it gathers."""
    rooms = defaultdict(set)
    for module, others in graph.items():
        room = room_of(module)
        known = {other for here, other in KNOWN if here == module}
        rooms[room] |= {room_of(other) for other in others - known} - {room}
    for what in (graph, rooms):
        try:
            TopologicalSorter(what).prepare()
        except CycleError as error:
            pytest.fail(' -> '.join(error.args[1]))


def test_the_scan_sees_what_it_is_to_see(tmp_path):
    for file in ('__init__', 'compat', 'registry', 'io/__init__', 'io/image', 'io/b', 'api/a'):
        path = tmp_path / f'{file}.py'
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / '__init__.py').write_text('import os\nfrom mmseg_siglip import compat\n')
    (tmp_path / 'io' / 'image.py').write_text(
        'from typing import TYPE_CHECKING\n'
        'import mmseg_siglip.registry\n'
        'if TYPE_CHECKING:\n    from mmseg_siglip.api.a import A\n'
        'def f():\n    from mmseg_siglip.io import b\n    from mmseg_siglip.io.b import f\n'
    )
    (tmp_path / 'io' / 'b.py').write_text('def f():\n    import mmseg_siglip.api.a\n')
    graph = graph_of(tmp_path)
    assert graph[''] == {'compat'} and graph['io.image'] == {'registry', 'io.b'}
    assert upward(graph) == {('io.b', 'api.a')}
