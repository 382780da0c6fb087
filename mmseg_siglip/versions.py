"""What is installed is what this package works with, or importing it says what is not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

LEAST = {
    'torch': '2.6',
    'transformers': '5.14',
    'open_clip_torch': '3.0',
    'timm': '1.0.17',
    'pillow': '11.3',
    'pyarrow': '18',
}
"""As in ``requirements/runtime.txt``, where the reasons are."""
BELOW = {'mmcv': '2.2', 'mmcv-lite': '2.2', 'onedl-mmcv': '2.2'}
"""What MMSegmentation 1.2 itself refuses to be imported with; its fork takes any."""
FORKS = ('mmengine', 'mmsegmentation')
"""Packages with a fork, ``onedl-`` before the name, that writes the same files."""


def numbers(text: str) -> tuple[int, ...]:
    """``(2, 6, 0)`` of ``2.6.0a0+git``."""
    return tuple(map(int, re.match(r'\d+(?:\.\d+)*', text)[0].split('.')))


def found_version(name: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def unfit(find: Callable[[str], str | None] = found_version) -> Iterator[str]:
    """A sentence for each thing that cannot work."""
    for name, least in LEAST.items():
        found = find(name)
        if found is not None and numbers(found) < numbers(least):
            yield f'expected {name} {least} or newer, found {found}; pip install "{name}>={least}"'
    for name in FORKS:
        if find(name) is not None and find(f'onedl-{name}') is not None:
            yield (
                f'expected one of {name} and onedl-{name}, found both, which write the same files; '
                'pip uninstall both, then install one'
            )
    if find('mmsegmentation') is not None:
        for name, below in BELOW.items():
            found = find(name)
            if found is not None and numbers(found) >= numbers(below):
                yield (
                    f'expected {name} below {below} beside mmsegmentation, found {found}; '
                    'pip uninstall it, then pip install "mmcv-lite<2.2"'
                )


def refuse_unfit() -> None:
    """Refuse to be imported beside versions that cannot work.

    Raises:
        ImportError: There are some.
    """
    if sentences := list(unfit()):
        raise ImportError('; '.join(sentences))


refuse_unfit()
