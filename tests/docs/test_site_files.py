"""The site: every page is in its navigation, it builds without a warning, and needs no network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

OUTSIDE = ('configs/*/*.md', 'benchmarks/RESULTS.md', 'SECURITY.md', 'CHANGELOG.md')
ADDRESS = re.compile(r'(?:url\(|@import)\s*["\']?(?:https?:)?//')


def leaves(nav):
    for value in nav.values() if isinstance(nav, dict) else nav:
        if isinstance(value, str):
            yield value
        else:
            yield from leaves(value)


def test_every_page_is_in_the_navigation(repository):
    settings = yaml.safe_load((repository / 'mkdocs.yml').read_text())
    docs = repository / 'docs'
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob('*.md')}
    pages |= {f'notebooks/{path.stem}.md' for path in docs.glob('notebooks/*.py')}
    for pattern in OUTSIDE:
        found = {path.relative_to(repository).as_posix() for path in repository.glob(pattern)}
        assert found, pattern
        pages |= found
    assert set(leaves(settings['nav'])) == pages
    assert settings['strict'] and settings['theme']['font'] is False


class References(HTMLParser):
    """What a page loads, and where it leads to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        leads = tag == 'a' or known.get('rel') == 'canonical'
        places = self.links if leads else self.loaded
        places += [known[name] for name in ('src', 'href', 'data', 'srcset') if known.get(name)]


@pytest.fixture(scope='module')
def site(repository, tmp_path_factory) -> Path:
    for name in ('mkdocs', 'material', 'mkdocstrings_handlers.python', 'jupytext'):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp('site')
    done = subprocess.run(
        [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--quiet', '--site-dir', folder],
        cwd=repository,
        env=os.environ | dict(NO_MKDOCS_2_WARNING='1'),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return folder


@pytest.mark.slow
def test_nothing_comes_from_elsewhere(site):
    pages = {path: References(path.read_text()) for path in site.rglob('*.html')}
    assert len(pages) > 40
    assert not {ref for page in pages.values() for ref in page.loaded if urlsplit(ref).netloc}
    assert not [path for path in site.rglob('*.css') if ADDRESS.search(path.read_text())]


@pytest.mark.slow
def test_every_link_leads_somewhere(site):
    gone = []
    for path in site.rglob('*.html'):
        if path.name == '404.html':  # its links begin at the root of a server
            continue
        page = References(path.read_text())
        for ref in map(urlsplit, [*page.links, *page.loaded]):
            if ref.scheme or ref.netloc or not ref.path:
                continue
            if not (path.parent / unquote(ref.path)).is_file():
                gone.append(f'{path.relative_to(site)}: {ref.path}')
    assert not gone


@pytest.mark.slow
def test_what_the_pages_show(site):
    def text(page):
        return re.sub(r'<[^>]+>', '', (site / page).read_text())

    assert 'class LocalAttention(DenseMethod)' in text('adding/method.html')
    assert 'def labelme(tables, folder)' in text('adding/exporter.html')
    assert 'compute_dense_similarity' in text('api/api.html')
    assert 'found.plot(outlines=True)' in text('notebooks/words_on_a_picture.html')
    assert 'class EncoderContract' in text('source/tests/contracts/encoder.py.html')
