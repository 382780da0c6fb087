"""MkDocs hook: pages that stand outside ``docs/``, notebooks, and pages of linked source files.

Links are written as they work in the repository. Here each gets a page to lead to.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

import jupytext
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ('configs/*/*.md', 'benchmarks/RESULTS.md', 'SECURITY.md', 'CHANGELOG.md')
LINK = re.compile(r'(?<=\]\()(?![a-z]+:|#)([^)#\s]+)')
LANGUAGES = {'.py': 'python', '.yml': 'yaml', '.sh': 'sh'}
SOURCE = """---
search:
  exclude: true
---

# `{name}`

``````````{language}
{text}
``````````
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of `OUTSIDE`, one for each notebook, and those that links ask for."""
    for path in (path for pattern in OUTSIDE for path in sorted(ROOT.glob(pattern))):
        files.append(File.generated(config, name_of(path), abs_src_path=str(path)))
    for path in sorted(ROOT.glob('docs/notebooks/*.py')):
        text = jupytext.writes(jupytext.read(path), fmt='md')
        text = re.sub(r'\A---\n.*?\n---\n+', '', text, flags=re.DOTALL)
        files.append(File.generated(config, f'notebooks/{path.stem}.md', content=text))
    for page in list(files.documentation_pages()):
        for linked in linked_files(page):
            uri = page_of(linked, files)
            if uri is None:
                content = source_page(linked)
                files.append(File.generated(config, f'{source_of(linked)}.md', content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to the pages of what they name."""

    def lead(found: re.Match) -> str:
        target = target_of(found[1], page.file)
        uri = target and page_of(target, files)
        return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri)) if uri else found[1]

    return LINK.sub(lead, markdown)


def name_of(path: Path) -> str:
    """A path by its name in the repository."""
    return path.relative_to(ROOT).as_posix()


def source_of(path: Path) -> str:
    return f'source/{name_of(path)}'


def target_of(link: str, file: File) -> Path | None:
    """What a link means in the repository, if it is there and of the repository."""
    place = ROOT / 'docs' / file.src_uri if file.abs_src_path is None else Path(file.abs_src_path)
    target = (place.parent / link).resolve()
    return target if target.exists() and target.is_relative_to(ROOT) else None


def linked_files(file: File) -> Iterator[Path]:
    for link in LINK.findall(file.content_string):
        if target := target_of(link, file):
            yield target


def page_of(target: Path, files: Files) -> str | None:
    """The page, or picture, of a path of the repository."""
    name = name_of(target)
    within = name.removeprefix('docs/')
    if target.suffix == '.py':
        within = within.removesuffix('.py') + '.md'
    names = (within, f'{name}/README.md', f'{source_of(target)}.md')
    return next((uri for uri in names if files.get_file_from_path(uri)), None)


def source_page(path: Path) -> str:
    """A file's text, or what is in a folder."""
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if not file.name.startswith('_'))
        text = '\n'.join(inside)
    else:
        text = path.read_text(encoding='utf-8').rstrip()
    language = LANGUAGES.get(path.suffix, 'text')
    return SOURCE.format(name=name_of(path), language=language, text=text)
