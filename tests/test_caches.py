"""No function keeps a tensor for the whole process: it would keep the mode that it was made in, be
it inference or export, and spoil later calls in another."""

from __future__ import annotations

import ast

import pytest

CACHES = {'lru_cache', 'cache'}


def kept_tensors(source: str) -> list[str]:
    """Functions under `functools`' caches that may return a tensor: all that do not say what they
    return, and what is wrapped without a decorator."""
    tree, found = ast.parse(source), []
    decorators = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for decorator in node.decorator_list:
                call = decorator.func if isinstance(decorator, ast.Call) else decorator
                if ast.unparse(call).split('.')[-1] in CACHES:
                    decorators.add(id(call))
                    returns = ast.unparse(node.returns) if node.returns else 'Tensor'
                    found += [node.name] if 'Tensor' in returns or 'Module' in returns else []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and id(node.func) not in decorators:
            name = ast.unparse(node.func)
            if name.split('.')[-1] in CACHES and name.split('.')[0] in (*CACHES, 'functools'):
                found.append(ast.unparse(node))
    return found


def test_there_is_none_in_the_package(repository):
    files = sorted((repository / 'mmseg_siglip').rglob('*.py'))
    assert len(files) > 100
    found = {str(path): kept_tensors(path.read_text(encoding='utf-8')) for path in files}
    assert not {path: names for path, names in found.items() if names}


@pytest.mark.parametrize(
    ('source', 'names'),
    [
        ('@lru_cache(maxsize=64)\ndef f(x) -> Tensor | None: ...', ['f']),
        ('@functools.cache\ndef f(x) -> tuple[torch.Tensor, int]: ...', ['f']),
        ('@cache\ndef f(x): ...', ['f']),
        ('f = lru_cache(g)', ['lru_cache(g)']),
        ('@lru_cache\ndef f(x) -> tuple[int, ...]: ...', []),
        ('@cached_property\ndef f(x) -> Tensor: ...', []),
    ],
)
def test_what_is_noticed(source, names):
    assert kept_tensors(source) == names
