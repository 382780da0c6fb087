"""Each private part is where we look for it, and the list of them is whole and up to date."""

from __future__ import annotations

import ast
import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

import pytest
from private_parts import DOCUMENT, PARTS, document, places_of

import mmseg_siglip

# Modules up to so many names long are a library's interface, longer ones if they are packages.
PUBLIC_DEPTH = dict(
    huggingface_hub=2,
    mmcv=2,
    mmengine=2,
    mmseg=2,
    open_clip=1,
    peft=2,
    segment_anything=1,
    timm=2,
    torch=9,
    transformers=2,
)
DOCUMENTED = {'transformers.utils.logging'}
STANDARD = {'os'}  # os._exit is documented
OF_PYTHON = {'_abc_impl', '_is_protocol', '_is_runtime_protocol'}

LISTED = {name for part in PARTS for name in part.names}


@pytest.fixture(scope='module')
def trees(repository):
    files = [*repository.glob('mmseg_siglip/**/*.py'), *repository.glob('tools/**/*.py')]
    return [ast.parse(path.read_text(encoding='utf-8')) for path in files if path.stem != 'compat']


@pytest.mark.parametrize('part', PARTS, ids=[part.check.__name__ for part in PARTS])
def test_it_is_where_we_look_for_it(part):
    part.check()


def test_nothing_is_listed_that_is_not_used():
    assert not [name for name in LISTED if not places_of(name)]


def test_the_document_is_the_list():
    expected = document()
    assert DOCUMENT.read_text(encoding='utf-8') == expected, 'run python tests/private_parts.py'


def test_underscores_of_others_are_listed(trees):
    nodes = [node for tree in trees for node in ast.walk(tree)]
    ours = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    ours |= {node.attr for node in nodes if stored(node, ast.Attribute)}
    ours |= {node.id for node in nodes if stored(node, ast.Name)}
    found = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and node.attr.startswith('_')
        and not node.attr.startswith('__')
        and ast.unparse(node.value) not in STANDARD
    }
    assert '_visualizer' in found - ours
    assert found - ours <= LISTED


def stored(node: ast.AST, kind: type) -> bool:
    return isinstance(node, kind) and isinstance(node.ctx, ast.Store)


def test_methods_that_we_replace_are_listed():
    found = {
        name
        for kind in classes()
        for name in vars(kind)
        if name.startswith('_') and not name.startswith('__')
        for base in kind.__mro__[1:]
        if name in vars(base) and not base.__module__.startswith('mmseg_siglip')
        if name in inspect.getsource(kind)  # libraries keep notes on subclasses at run time
    }
    assert '_save_checkpoint' in found
    assert found - OF_PYTHON <= LISTED


def classes() -> Iterator[type]:
    """All classes of the package whose libraries are installed."""
    for info in pkgutil.walk_packages(mmseg_siglip.__path__, 'mmseg_siglip.'):
        if info.name.endswith('__main__'):
            continue
        try:
            module = import_module(info.name)
        except ModuleNotFoundError as error:
            assert not error.name.startswith('mmseg_siglip')
            continue
        for value in vars(module).values():
            if inspect.isclass(value) and value.__module__ == info.name:
                yield value


def test_imports_from_inside_a_library_are_listed(trees):
    found = {
        token
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for token in deep(node)
    }
    assert 'open_clip.tokenizer:canonicalize_text' in found
    assert found <= LISTED


def deep(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    module = getattr(node, 'module', None)
    for alias in node.names:
        place, name = (alias.name, '') if module is None else (module, alias.name)
        root = place.partition('.')[0]
        if root not in PUBLIC_DEPTH:
            continue
        parts = f'{place}.{name}'.split('.')
        if any(part.startswith('_') for part in parts if part):
            yield f'{place}:{name}'
            continue
        if name and place.count('.') and is_file(f'{place}.{name}'):
            place = f'{place}.{name}'
        if place in DOCUMENTED or place.count('.') < PUBLIC_DEPTH[root] or not is_file(place):
            continue
        yield f'{place}:{name}'


def is_file(module: str) -> bool:
    """Whether this is a module that is no package."""
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        return False
    return spec is not None and spec.submodule_search_locations is None
