"""A system as a folder, or a repository of the Hub: what it is, and the weights that it adds.

config.json         what to build, as data (see `description`), and where other weights are
model.safetensors   what was trained, or differs from those
weights/            copies of those that lay on the machine that saved it
README.md           the card, for people
"""

from __future__ import annotations

import json
import os
import reprlib
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import save_file
from torch import Tensor, nn

from mmseg_siglip.api.description import build_from_data, check_data, own_names
from mmseg_siglip.api.origins import FOLDER, Origin, as_description, put_back, settle
from mmseg_siglip.io.files import whole_file, write_atomically
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.checkpoint import load_checkpoint_file
from mmseg_siglip.weights.claims import room_for
from mmseg_siglip.weights.differences import differing, tensors_digest
from mmseg_siglip.weights.finite import refuse_not_finite
from mmseg_siglip.weights.json_file import read_object
from mmseg_siglip.weights.source import CONFIG_NAME, Source

FORMAT, VERSION = 'mmseg_siglip', 1
WEIGHTS_NAME = 'model.safetensors'
SHIPPED_MOST, HUB_MOST, PER_BYTE = 2**24, 2**33, 4
"""Most weights of what ships along and of a model on the Hub, and of a system for each byte of its
files."""
DTYPES = ('float32', 'float16', 'bfloat16')
FIELDS = ('format', 'version', 'task', 'model', 'origins', 'digest', 'settings')


@dataclass(frozen=True)
class SystemFolder:
    """What the ``config.json`` of a saved system says.

    Attributes:
        folder: Where it lies.
        task: See `SYSTEMS`.
        model: Description of its model.
        origins: Of weights that are not in ``model.safetensors``, by their place in `model`.
        digest: Of all tensors that are not there, see `tensors_digest`.
        settings: Further arguments of the system.
    """

    folder: Path
    task: str
    model: dict[str, Any]
    origins: dict[str, Origin]
    digest: str
    settings: dict[str, Any]

    @classmethod
    def find(cls, source: str | Path, *, revision: str | None = None) -> SystemFolder | None:
        """The saved system of a folder or Hub id; None where something else is there.

        Raises:
            ValueError: It is damaged, of a later version, or asks for more than data may.
        """
        found = Source.open(source, revision=revision)
        if found.open_clip_name or found.is_file or found.config.get('format') != FORMAT:
            return None
        if found.path is not None:
            _refuse_links(found.path)
            return cls.read(found.path)
        folder = snapshot_download(
            found.repository,
            revision=revision,
            allow_patterns=[CONFIG_NAME, WEIGHTS_NAME, f'{FOLDER}/*'],
        )
        return cls.read(Path(folder))

    @classmethod
    def read(cls, folder: Path) -> SystemFolder:
        path = folder / CONFIG_NAME
        data = read_object(path)
        if data.get('version') != VERSION:
            raise ValueError(
                f'{path}: expected version {VERSION} of the format, found '
                f'{reprlib.repr(data.get("version"))}'
            )
        if strange := [*data.keys() - set(FIELDS), *set(FIELDS) - data.keys()]:
            raise ValueError(
                f'{path}: expected {", ".join(FIELDS)}, found a difference in {strange[0]!r}'
            )
        for name, kind in (('task', str), ('digest', str), ('origins', dict), ('settings', dict)):
            if type(data[name]) is not kind:
                raise ValueError(f'{path}: expected {name} to be a {kind.__name__}')
        check_data(data['model'], path)
        origins = {
            place: Origin.read(value, f'{path}: {place}')
            for place, value in data['origins'].items()
        }
        model, settings = data['model'], data['settings']
        return cls(folder, data['task'], model, origins, data['digest'], settings)

    @property
    def description(self) -> dict[str, Any]:
        """That of its model, with the sources of its weights.

        Raises:
            ValueError: A place is not free for weights, or a copy is missing.
        """
        return put_back(self.model, self.origins, self.folder)

    @property
    def kind(self) -> type[nn.Module]:
        """The class of its model."""
        return own_names(MODELS).get(self.model.get('type'), nn.Module)

    def build(self) -> nn.Module:
        """The model, on the CPU.

        Raises:
            ValueError: A part is missing, does not fit, or is not what it was when it was saved.
        """
        state = self._state()
        with self.room():
            model = build_from_data(
                MODELS, self.model, self.folder / CONFIG_NAME, complete=lambda _: self.description
            )
        self._fill(model, state)
        return model.eval()

    def load_into(self, model: nn.Module) -> None:
        """Put its weights into a model that was built by its `description`.

        Raises:
            ValueError: See `build`.
        """
        self._fill(model, self._state())

    def _state(self) -> dict[str, Tensor]:
        path = self.folder / WEIGHTS_NAME
        state = load_checkpoint_file(path)
        refuse_not_finite(state, path)
        return state

    def _fill(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        _load(model, state, self.folder / WEIGHTS_NAME)
        whole = model.state_dict()
        rest = {name: value for name, value in whole.items() if name not in state}
        if (digest := tensors_digest(rest)) != self.digest:
            origins = ', '.join(map(str, self.origins.values())) or 'this package'
            raise ValueError(
                f'{self.folder}: expected the {len(rest)} tensors that {WEIGHTS_NAME} leaves to '
                f'{origins} to be those that it was saved with (SHA-256 {self.digest[:12]}), found '
                f'others ({digest[:12]})'
            )

    def room(self) -> AbstractContextManager:
        """While its model is built: for as many weights as its files may have, and those that come
        from elsewhere."""
        files = [self.folder / WEIGHTS_NAME, *(self.folder / FOLDER).rglob('*')]
        held = sum(path.stat().st_size for path in files if path.is_file())
        elsewhere = any(origin.kind != 'folder' for origin in self.origins.values())
        most = PER_BYTE * held + (HUB_MOST if elsewhere else SHIPPED_MOST)
        return room_for(most, self.folder)


def write_system(
    folder: str | Path,
    task: str,
    model: nn.Module,
    description: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    dtype: str = 'float32',
) -> SystemFolder:
    """Write all but the card.

    What was in the folder stays there until all is written elsewhere.

    Args:
        folder: A new one, an empty one, or that of a saved system.
        task: See `SYSTEMS`.
        model: The trained model.
        description: Its configuration.
        settings: Further arguments of the system, as JSON has them.
        dtype: Number format of the weights that are written.

    Raises:
        ValueError: The folder holds something else, or the configuration cannot be told as data.
    """
    folder = Path(folder)
    path = folder / CONFIG_NAME
    as_dtype(dtype)
    if path.exists() and read_object(path).get('format') != FORMAT:
        raise ValueError(f'{folder}: expected a folder to fill, found another model in it')
    plain, sources = as_description(description)
    check_data(plain, f'{task} cannot be saved')
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f'.{folder.name}-', dir=folder.parent) as draft:
        _write(Path(draft), task, model, plain, sources, dict(settings), dtype)
        _move(Path(draft), folder)
    return SystemFolder.read(folder)


def _write(
    folder: Path,
    task: str,
    model: nn.Module,
    plain: dict[str, Any],
    sources: Mapping[str, tuple[str, str | None]],
    settings: dict[str, Any],
    dtype: str,
) -> None:
    origins = settle(sources, folder)
    state = model.state_dict()
    changed = differing(state, _untrained(SystemFolder(folder, task, plain, origins, '', settings)))
    rest = {name: value for name, value in state.items() if name not in changed}
    narrowed = {name: _narrowed(value, as_dtype(dtype)) for name, value in changed.items()}
    refuse_not_finite(narrowed, f'the model as {dtype}')
    with whole_file(folder / WEIGHTS_NAME) as draft:
        save_file(narrowed, draft, metadata=dict(format='pt'))
    data = dict(
        format=FORMAT,
        version=VERSION,
        task=task,
        model=plain,
        origins={place: origin.to_dict() for place, origin in origins.items()},
        digest=tensors_digest(rest),
        settings=settings,
    )
    write_atomically(json.dumps(data, indent=2, ensure_ascii=False) + '\n', folder / CONFIG_NAME)


def _move(draft: Path, folder: Path) -> None:
    """Put a complete system into the place of another: in between, the folder holds none."""
    folder.mkdir(exist_ok=True)
    (folder / CONFIG_NAME).unlink(missing_ok=True)
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    for name in (FOLDER, WEIGHTS_NAME, CONFIG_NAME):
        if (draft / name).exists():
            os.replace(draft / name, folder / name)


def _refuse_links(folder: Path) -> None:
    """Refuse links to what lies outside a folder: a copy of the system would hold that.

    Raises:
        ValueError: There is one.
    """
    own = folder.resolve()
    inside = [own, own.parents[1] / 'blobs'] if own.parent.name == 'snapshots' else [own]
    for path in (folder / CONFIG_NAME, folder / WEIGHTS_NAME, *folder.glob(f'{FOLDER}/**/*')):
        target = Path(os.path.realpath(path))
        if not any(target.is_relative_to(place) for place in inside):
            raise ValueError(f'{path}: expected a file of the folder, found a link to {target}')


def _untrained(saved: SystemFolder) -> dict[str, Tensor]:
    """The tensors of the same model as it is built, random ones by no seed of the caller's."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.seed()
        model = build_from_data(
            MODELS,
            saved.model,
            saved.folder,
            complete=lambda _: saved.description,
        )
    return model.state_dict()


def as_dtype(name: str) -> torch.dtype:
    """A number format of weights.

    Raises:
        ValueError: It is none of `DTYPES`.
    """
    if name not in DTYPES:
        raise ValueError(f'dtype: expected one of {", ".join(DTYPES)}, found {name!r}')
    return getattr(torch, name)


def _narrowed(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy on the CPU: safetensors writes none that share memory."""
    value = value.detach().to('cpu', dtype if value.is_floating_point() else value.dtype, copy=True)
    return value.contiguous()


def _load(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Put tensors in.

    Raises:
        ValueError: The model has no such tensor, or one of another shape.
    """
    own = model.state_dict()
    for name, value in state.items():
        if name not in own or own[name].shape != value.shape:
            expected = tuple(own[name].shape) if name in own else 'no such tensor'
            raise ValueError(f'{path}: expected {expected}, found {name} {tuple(value.shape)}')
    model.load_state_dict(state, strict=False)
