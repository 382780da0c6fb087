"""Weights that a description leaves where they are: an encoder on the Hub, a SAM, a second model.

A description names none (see `check_data`). Beside it stands where each comes from, by its place in
the description: ``backbone.pretrained`` is the entry ``pretrained`` of ``backbone``.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any

from huggingface_hub import try_to_load_from_cache

from mmseg_siglip.api.description import ELSEWHERE, takes
from mmseg_siglip.io.files import whole_file
from mmseg_siglip.text.vocabulary import Vocabulary
from mmseg_siglip.weights.peft_folder import Adapters
from mmseg_siglip.weights.source import CONFIG_NAME, Source, split_name

WORDS = ('vocabulary', 'test_vocabulary')
WEIGHTS = tuple(
    'pretrained checkpoint config tokenizer name_or_path vision guide sam llm clip dino siglip '
    'radio'.split()
)
"""Arguments by which a class takes weights, or what stands beside them."""
PINNED = ('pretrained', 'checkpoint')
"""Those of which ``revision``, where it is an argument, says the commit."""
FOLDER = 'weights'
HUB = re.compile(r'(hf-hub:)?[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*')
OPEN_CLIP = re.compile(r'[A-Za-z0-9][\w.-]*(/[\w.-]+)?(@336px)?(:[\w.-]+)?')
REVISION = re.compile(r'[\w.-]+')
FILE = re.compile(r'\w[\w.-]*(/\w[\w.-]*)?')
KEPT = ('.safetensors', '.json', '.txt', '.model')
ELSE = ('.bin', '.pt', '.pth', '.npz')
"""Weights that nobody reads beside ``.safetensors``."""
LIES_BESIDE = re.compile(
    r'(open_clip_|(pre)?processor_|image_processor_)?config\.json'
    r'|(tokenizer|special_tokens_map|added_tokens|vocab|merges|spiece)[\w.-]*\.(json|txt|model)'
)
"""Names of what a file of weights may need that lies in the same folder."""


@dataclass(frozen=True)
class Origin:
    """Where weights come from.

    Attributes:
        kind: ``hub``, an id; ``open_clip``, a name; ``folder``, a folder or file below `FOLDER`.
        name: That.
        revision: Commit of an id, where it is known.
    """

    kind: str
    name: str
    revision: str | None = None

    @classmethod
    def of(cls, source: str, revision: str | None = None) -> Origin:
        """The origin of what is no path; of a Hub id, of the commit in the cache by default.

        Raises:
            ValueError: Nothing has that name.
        """
        found = Source.open(source)
        if found.open_clip_name is not None:
            return cls('open_clip', source)
        return cls('hub', source, revision or commit_of(found.repository))

    @classmethod
    def read(cls, data: object, where: str) -> Origin:
        """What `to_dict` gave, or a stranger wrote.

        Raises:
            ValueError: It names something else than an id, a name or a file of the folder.
        """
        if isinstance(data, dict):
            revision = data.get('revision')
            for kind, form in (('hub', HUB), ('open_clip', OPEN_CLIP), ('folder', FILE)):
                name = data.get(kind)
                fits = isinstance(name, str) and form.fullmatch(name) and '..' not in name
                if fits and kind == 'open_clip':
                    fits = split_name(name)[1] is not None
                pinned = revision is None or (
                    kind == 'hub' and isinstance(revision, str) and REVISION.fullmatch(revision)
                )
                if fits and pinned and data.keys() <= {kind, 'revision'}:
                    return cls(kind, name, revision)
        raise ValueError(
            f'{where}: expected a Hub id, a name of open_clip or a file of the folder, '
            f'found {reprlib.repr(data)}'
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


def as_description(settings: Mapping) -> tuple[dict, dict[str, tuple[str, str | None]]]:
    """A model's configuration as JSON has it, and what it names that lies elsewhere, by place: a
    source and its revision.

    Words are written out where they come from a file.

    Raises:
        ValueError: It names a file that is no weights.
    """
    plain, found = _plain(settings), {}
    for place, parent, key in sorted(_strings(plain), key=lambda found: found[2] == 'revision'):
        value = parent.get(key)
        if value is None or ELSEWHERE[key](value):
            continue
        if key in WORDS:
            parent[key] = Vocabulary.load(value).lines
            Vocabulary.load(parent[key])
        elif key in WEIGHTS:
            found[place] = value, parent.pop('revision', None) if key in PINNED else None
            parent[key] = None
        else:
            raise ValueError(f'{place}: expected no file of this machine, found {value!r}')
    return plain, found


def settle(sources: Mapping[str, tuple[str, str | None]], folder: Path) -> dict[str, Origin]:
    """Where the weights of a saved system come from; of files of this machine, copies are made.

    Args:
        sources: By place, see `as_description`.
        folder: Of the saved system.

    Raises:
        ValueError: There is no such thing, or it cannot be copied.
    """
    origins = {}
    for place, (source, revision) in sources.items():
        path = Path(source)
        if path.exists():
            name = place.replace('.', '-')
            copy_weights(path, folder / FOLDER / name)
            file = f'/{plain_name(path)}' if path.is_file() else ''
            origins[place] = Origin('folder', name + file)
        else:
            origins[place] = Origin.of(source, revision)
    return origins


def plain_name(path: Path) -> str:
    """A file's name, which may tell what it is, in plain letters."""
    return re.sub(r'[^\w.-]', '_', path.name).replace('..', '__').lstrip('.-') or '_'


def copy_weights(source: Path, target: Path) -> None:
    """Copy a file of weights with what describes it, or of a folder what it takes to load it.

    Args:
        source: A file or folder.
        target: The new folder.

    Raises:
        ValueError: A folder holds adapters of weights that lie on this machine.
    """
    if source.is_file():
        beside = [path for path in source.parent.iterdir() if LIES_BESIDE.fullmatch(path.name)]
        files = {path: target / path.name for path in beside if path.is_file()}
        files[source] = target / plain_name(source)
    else:
        adapters = Adapters.of(source)
        if adapters is not None and Path(adapters.base).exists():
            raise ValueError(
                f'{source}: expected adapters of weights on the Hub, found those of {adapters.base}'
            )
        kept = [path for path in sorted(source.iterdir()) if path.suffix in KEPT + ELSE]
        if any(path.suffix == '.safetensors' for path in kept):
            kept = [path for path in kept if path.suffix not in ELSE]
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
            raise ValueError(
                f'{folder}: expected a place for weights in the model, found {reprlib.repr(place)}'
            )
        parent[key] = origin.name
        if origin.kind == 'folder':
            parent[key] = str(_copy_in(folder, origin.name))
        elif Path(origin.name).exists():
            raise ValueError(
                f'{folder}: expected {origin.name} to be a name of the Hub alone, found a file or '
                f'folder of that name in {Path.cwd()}'
            )
        elif origin.revision is not None and key in PINNED and takes(parent, 'revision'):
            parent['revision'] = origin.revision
    return found


def _copy_in(folder: Path, name: str) -> Path:
    """The copy of that name, which asks for nothing else of this machine.

    Raises:
        ValueError: It is missing, or adapters of it belong to something that is no Hub id.
    """
    path = folder / FOLDER / name
    if not path.exists():
        raise ValueError(f'{folder}: expected {FOLDER}/{name}, found none')
    adapters = Adapters.of(path)
    if adapters is not None:
        Origin.read(dict(hub=adapters.base), f'{path}: adapters')
        if Path(adapters.base).exists():
            raise ValueError(
                f'{path}: expected adapters of weights on the Hub, found those of {adapters.base}'
            )
    return path


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
