"""Outside of ``models/backbones`` nobody looks into an encoder's model or asks for its class.

But for ``models/adapters``, which tell foreign checkpoints' names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from mmseg_siglip.models.backbones.build import encoder_kinds

ROOMS = ('mmseg_siglip/models/backbones/', 'mmseg_siglip/models/adapters/')
HOLDERS = {'backbone', 'siglip', 'clip', 'encoder'}
"""What a variable or attribute that holds an encoder is called."""
INSIDES = {'vision_model', 'text_model', 'visual', 'resblocks', 'post_layernorm'}
"""What the libraries call the parts of their models."""


@pytest.fixture(scope='module')
def files(repository):
    found = {
        path.relative_to(repository).as_posix(): ast.parse(path.read_text(encoding='utf-8'))
        for folder in ('mmseg_siglip', 'tools', 'benchmarks')
        for path in repository.glob(f'{folder}/**/*.py')
    }
    assert all(any(path.startswith(room) for path in found) for room in ROOMS)
    return found


def outside(files: dict[str, ast.Module]) -> Iterator[tuple[str, ast.AST]]:
    for path, tree in files.items():
        if not path.startswith(ROOMS):
            yield from ((path, node) for node in ast.walk(tree))


def last(node: ast.AST) -> str | None:
    """``backbone`` of ``self.backbone`` and of ``backbone``."""
    return getattr(node, 'attr', getattr(node, 'id', None))


def is_reach(node: ast.AST) -> bool:
    """``backbone.model``, ``self.siglip.model``, ``x.vision_model``."""
    return isinstance(node, ast.Attribute) and (
        node.attr in INSIDES or node.attr == 'model' and last(node.value) in HOLDERS
    )


def asks_for(node: ast.AST, kinds: set[str]) -> bool:
    """``isinstance(x, CLIPBackbone)``, ``type(x) is CLIPBackbone``, ``x == 'CLIPBackbone'``."""
    if isinstance(node, ast.Call) and last(node.func) in ('isinstance', 'issubclass'):
        places = node.args[1:]
    elif isinstance(node, ast.Compare):
        places = [node.left, *node.comparators]
    else:
        return False
    parts = [part for place in places for part in ast.walk(place)]
    return any(last(part) in kinds or getattr(part, 'value', None) in kinds for part in parts)


def lines(found: Iterator[tuple[str, ast.AST]]) -> list[str]:
    return [f'{path}:{node.lineno}: {ast.unparse(node)}' for path, node in found]


def test_nobody_reaches_into_an_encoder(files):
    assert not lines((path, node) for path, node in outside(files) if is_reach(node))


def test_nobody_asks_for_an_encoder_by_its_class(files):
    kinds = {kind.__name__ for kind in encoder_kinds()}
    assert {'CLIPBackbone', 'SigLIPBackbone'} <= kinds
    assert not lines((path, node) for path, node in outside(files) if asks_for(node, kinds))


def test_the_scan_sees_what_it_is_to_see():
    def nodes(code: str) -> list[ast.AST]:
        return list(ast.walk(ast.parse(code)))

    for code in ('backbone.model', 'self.siglip.model.to(x)', 'a.encoder.model', 'x.vision_model'):
        assert any(map(is_reach, nodes(code))), code
    for code in ('cfg.model.backbone', 'self.sam.model', 'encoder.model_types', 'x.models'):
        assert not any(map(is_reach, nodes(code))), code
    kinds = {'CLIPBackbone'}
    for code in (
        'isinstance(x, (int, base.CLIPBackbone))',
        'type(x) is CLIPBackbone',
        "type(x).__name__ == 'CLIPBackbone'",
        "x['type'] in ('CLIPBackbone',)",
    ):
        assert any(asks_for(node, kinds) for node in nodes(code)), code
    for code in ('CLIPBackbone(arch=x)', "dict(type='CLIPBackbone')", 'isinstance(x, Tensor)'):
        assert not any(asks_for(node, kinds) for node in nodes(code)), code
