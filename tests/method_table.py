"""The table of dense methods, out of the registry and what each class says of itself.

``python tests/method_table.py`` writes it as ``docs/methods.md``.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from mmseg_siglip.models.backbones.trunk import method_names
from mmseg_siglip.models.dense import DenseMethod
from mmseg_siglip.registry import DENSE_METHODS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / 'docs' / 'methods.md'
HEAD = """---
hide: [toc]
---

# All dense methods

Made by `python tests/method_table.py` out of the registry and the docstrings, so that no method
is missing. A name is what `attention`, `--method` and `--methods` take, and leads to its file. q, k
and v are those of the last attention, d the channels of a head, W_o its output projection. What to
pick and what is measured: [family.md](family.md). A method of your own:
[adding/method.md](adding/method.md).

- *Needs*: a **guide**, a second frozen model (`--guide`; the method's own by default); **regions**
  (`--regions`), masks of whatever is there.
- *Sees*: a window at a time, all windows of an image, or the image in one piece.
- *Site*: where it works on an encoder with a pooling head (SigLIP, PE-Core): the **trunk**'s last
  block, or the **head**; the default comes first.
- *Options* are keyword arguments: `dict(type=NAME, ...)`.

| names | what it does | needs | sees | site | paper |
|---|---|---|---|---|---|
"""
ADDRESS = re.compile(r'https://(?:arxiv\.org/abs/|github\.com/)[\w./-]*\w')
APART = {'guide', 'options'}


def methods() -> dict[type[DenseMethod], list[str]]:
    """Every class that is registered, with its names, the first of which is said first."""
    found: dict[type[DenseMethod], list[str]] = {}
    for name in method_names():
        found.setdefault(DENSE_METHODS.get(name), []).append(name)
    return dict(sorted(found.items(), key=lambda entry: entry[1][0]))


def paper(kind: type[DenseMethod]) -> str:
    """The first address of the class's docstring, or of its file's."""
    for text in (kind.__doc__, sys.modules[kind.__module__].__doc__):
        if address := ADDRESS.search(text):
            name = address[0].removeprefix('https://arxiv.org/abs/').removeprefix('https://')
            return f'[{name}]({address[0]})'
    return ''


def summary(kind: type[DenseMethod]) -> str:
    """The first paragraph of a docstring, without addresses and in one line of a table."""
    text = ' '.join(inspect.getdoc(kind).partition('\n\n')[0].split())
    text = re.sub(r' \(https:[^)]*\)', '', text)
    text = re.sub(r'[,;]? ?[Ss]ee `[^`]+`(?: and `[^`]+`)?', '', text)
    return text.replace('|', '\\|').strip()


def row(kind: type[DenseMethod], names: list[str]) -> str:
    needs = [name for name in ('guide', 'regions') if getattr(kind, f'uses_{name}')]
    sees = 'window' if kind.scope == 'window' else 'windows' if kind.windows else 'image'
    first = 'trunk' if kind.residual else 'head'
    sites = sorted(kind.sites, key=lambda site: site != first)
    options = [f'`{name}`' for name in inspect.signature(kind).parameters if name not in APART]
    place = Path(inspect.getfile(kind)).relative_to(ROOT).as_posix()
    cells = (
        ', '.join(f'[`{name}`](../{place})' for name in names),
        ' '.join([summary(kind), *(['*Options:*', ', '.join(options)] if options else [])]),
        ', '.join(needs),
        sees,
        ', '.join(sites),
        paper(kind),
    )
    return f'| {" | ".join(cells)} |\n'


def document() -> str:
    return HEAD + ''.join(row(kind, names) for kind, names in methods().items())


if __name__ == '__main__':
    DOCUMENT.write_text(document(), encoding='utf-8')
