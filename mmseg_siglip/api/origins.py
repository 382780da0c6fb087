"""Weights that a description leaves where they are: an encoder on the Hub, a SAM, a second model.

A description names none (see `check_data`). Beside it stands where each comes from, by its place in
the description: ``backbone.pretrained`` is the entry ``pretrained`` of ``backbone``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any

from huggingface_hub import try_to_load_from_cache

from mmseg_siglip.api.description import ELSEWHERE
from mmseg_siglip.io.files import whole_file
from mmseg_siglip.text.vocabulary import Vocabulary
from mmseg_siglip.weights.peft_folder import Adapters
from mmseg_siglip.weights.source import CONFIG_NAME, Source

WORDS = ('vocabulary', 'test_vocabulary')
WEIGHTS = tuple(
    'pretrained checkpoint config tokenizer name_or_path vision guide sam llm clip dino siglip '
    'radio'.split()
)
"""Arguments by which a class takes weights, or what stands beside them."""
FOLDER = 'weights'
HUB = re.compile(r'(hf-hub:)?[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*')
OPEN_CLIP = re.compile(r'[A-Za-z0-9][\w.-]*(/[\w.-]+)?(@336px)?(:[\w.-]+)?')
REVISION = re.compile(r'[\w.-]+')
KEPT = ('.safetensors', '.bin', '.pt', '.pth', '.npz', '.json', '.txt', '.model')


@dataclass(frozen=True)
class Origin:
    """Where weights come from.

    Attributes:
        kind: ``hub``, an id; ``open_clip``, a name; ``folder``, a name below `FOLDER`.
        name: That.
        revision: Commit of an id, where it is known.
    """

    kind: str
    name: str
    revision: str | None = None

    @classmethod
    def of(cls, source: str) -> Origin:
        """The origin of what is no path.

        Raises:
            ValueError: Nothing has that name.
        """
        found = Source.open(source)
        if found.open_clip_name is not None:
            return cls('open_clip', source)
        return cls('hub', source, commit_of(found.repository))

    @classmethod
    def read(cls, data: object, where: str) -> Origin:
        """What `to_dict` gave, or a stranger wrote.

        Raises:
            ValueError: It names something else than an id, a name or a file of the folder.
        """
        if isinstance(data, dict):
            revision = data.get('revision')
            for kind, form in (('hub', HUB), ('open_clip', OPEN_CLIP), ('folder', REVISION)):
                name = data.get(kind)
                fits = isinstance(name, str) and form.fullmatch(name) and '..' not in name
                pinned = revision is None or (
                    kind == 'hub' and isinstance(revision, str) and REVISION.fullmatch(revision)
                )
                if fits and pinned and data.keys() <= {kind, 'revision'}:
                    return cls(kind, name, revision)
        raise ValueError(
            f'{where}: expected a Hub id, a name of open_clip or a file of the folder, '
            f'found {data!r}'
        )

    def to_dict(self) -> dict[str, str]:
        revision = {} if self.revision is None else dict(revision=self.revision)
        return {self.kind: self.name} | revision

    def __str__(self) -> str:
        return self.name if self.revision is None else f'{self.name} at {self.revision}'


def commit_of(repository: str) -> str | None:
    """The commit of a Hub id that lies in the cache; None if none does."""
    for name in (CONFIG_NAME, 'open_clip_config.json'):
        path = try_to_load_from_cache(repository, name)
        if isinstance(path, str):
            return Path(path).parent.name
    return None


def as_description(settings: Mapping) -> tuple[dict, dict[str, str]]:
    """A model's configuration as JSON has it, and what it names that lies elsewhere, by place.

    Words are written out where they come from a file.

    Raises:
        ValueError: It names a file that is no weights.
    """
    plain, found = _plain(settings), {}
    for place, parent, key in list(_strings(plain)):
        value = parent[key]
        if ELSEWHERE[key](value):
            continue
        if key in WORDS:
            parent[key] = Vocabulary.load(value).lines
            Vocabulary.load(parent[key])
        elif key in WEIGHTS:
            parent[key], found[place] = None, value
        else:
            raise ValueError(f'{place}: expected no file of this machine, found {value!r}')
    return plain, found


def settle(sources: Mapping[str, str], folder: Path) -> dict[str, Origin]:
    """Where the weights of a saved system come from; of files of this machine, copies are made.

    Args:
        sources: By place, see `as_description`.
        folder: Of the saved system.

    Raises:
        ValueError: There is no such thing, or it cannot be copied.
    """
    origins = {}
    for place, source in sources.items():
        if not Path(source).exists():
            origins[place] = Origin.of(source)
            continue
        name = place.replace('.', '-') + (Path(source).suffix if Path(source).is_file() else '')
        copy_weights(Path(source), folder / FOLDER / name)
        origins[place] = Origin('folder', name)
    return origins


def copy_weights(source: Path, target: Path) -> None:
    """Copy a file of weights, or of a folder what it takes to load it.

    Raises:
        ValueError: A folder holds adapters of weights that lie on this machine.
    """
    if source.is_file():
        files = {source: target}
    else:
        adapters = Adapters.of(source)
        if adapters is not None and Path(adapters.base).exists():
            raise ValueError(
                f'{source}: expected adapters of weights on the Hub, found those of {adapters.base}'
            )
        kept = [path for path in sorted(source.iterdir()) if path.suffix in KEPT]
        if any(path.suffix == '.safetensors' for path in kept):
            kept = [path for path in kept if path.suffix != '.bin']
        files = {path: target / path.name for path in kept if path.is_file()}
    for path, copy in files.items():
        with whole_file(copy) as draft:
            copyfile(path, draft)


def put_back(description: Mapping, origins: Mapping[str, Origin], folder: Path) -> dict:
    """A description with the sources of its weights.

    Args:
        description: With None in each place.
        origins: By place.
        folder: Of the saved system.

    Raises:
        ValueError: A place is not free for weights, or a copy is missing.
    """
    found = deepcopy(dict(description))
    for place, origin in origins.items():
        *above, key = place.split('.')
        parent: Any = found
        for name in above:
            parent = _child(parent, name)
        if key not in WEIGHTS or not isinstance(parent, dict) or parent.get(key, 0) is not None:
            raise ValueError(f'{folder}: expected a place for weights in the model, found {place}')
        parent[key] = origin.name
        if origin.kind == 'folder':
            path = folder / FOLDER / origin.name
            if not path.exists():
                raise ValueError(f'{folder}: expected {FOLDER}/{origin.name}, found none')
            parent[key] = str(path)
        elif origin.revision is not None and key in ('pretrained', 'checkpoint'):
            parent['revision'] = origin.revision
    return found


def _child(parent: Any, name: str) -> Any:
    if isinstance(parent, dict):
        return parent.get(name)
    if isinstance(parent, list) and name.isdecimal() and int(name) < len(parent):
        return parent[int(name)]
    return None


def _plain(value: Any) -> Any:
    """With dicts and lists for what is like them, and text for paths."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Vocabulary):
        return value.lines
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _strings(value: Any, place: str = '') -> Iterator[tuple[str, dict, str]]:
    """Each text that may name what lies elsewhere: its place, what it is an entry of, and its
    name there."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        inner = f'{place}.{key}' if place else str(key)
        if isinstance(item, (dict, list)):
            yield from _strings(item, inner)
        elif isinstance(value, dict) and key in ELSEWHERE and isinstance(item, str):
            yield inner, value, key
