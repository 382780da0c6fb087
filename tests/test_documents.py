"""Documents name what there is: modules, files, links and tests."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    path.relative_to(ROOT).as_posix()
    for pattern in ('*.md', 'docs/**/*.md', 'benchmarks/*.md', 'configs/**/*.md')
    for path in sorted(ROOT.glob(pattern))
]
FOLDERS = 'benchmarks|configs|docs|examples|mmseg_siglip|requirements|tests|tools'


def resolves(dotted: str) -> bool:
    """Whether this is a module, or a name in one."""
    parts = dotted.split('.')
    for count in range(len(parts), 0, -1):
        try:
            found = import_module('.'.join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for name in parts[count:]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


@pytest.mark.parametrize('document', DOCUMENTS)
def test_names_of_modules(document):
    names = set(re.findall(r'mmseg_siglip(?:\.[A-Za-z_]\w*)+', (ROOT / document).read_text()))
    assert not [name for name in sorted(names) if not resolves(name)]


@pytest.mark.parametrize('document', DOCUMENTS)
def test_files_and_links(document):
    text = (ROOT / document).read_text()
    names = re.findall(rf'(?<![\w/.])(?:{FOLDERS})/[\w./*-]+(?![\w<])', text)
    gone = [name for name in names if not list(ROOT.glob(name.rstrip('./')))]
    links = re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', text)
    gone += [link for link in links if not (ROOT / document).parent.joinpath(link).exists()]
    assert not gone


@pytest.mark.parametrize('document', DOCUMENTS)
def test_tests(document):
    """A test's file may be named by the end of its path."""
    files = {path.as_posix(): path for path in ROOT.glob('tests/**/test_*.py')}
    gone = []
    for file, name in re.findall(r'([\w/]*test_\w+\.py)::(\w+)', (ROOT / document).read_text()):
        texts = [path.read_text() for place, path in files.items() if place.endswith(f'/{file}')]
        if not any(re.search(rf'(def|class) {name}\b', text) for text in texts):
            gone.append(f'{file}::{name}')
    assert not gone


def test_what_is_not_there_is_noticed():
    assert resolves('mmseg_siglip.api.OpenVocabSegmenter') and resolves('mmseg_siglip.io.image')
    assert not resolves('mmseg_siglip.nothing') and not resolves('mmseg_siglip.api.Nothing')
    assert len(DOCUMENTS) > 10
