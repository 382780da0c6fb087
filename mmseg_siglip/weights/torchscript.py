"""Read the weights of a TorchScript archive as data: nothing in it is compiled or run.

OpenAI publishes CLIP in this format. The archive is a zip file: ``data.pkl`` describes the modules,
``data/<n>`` are raw storages, and ``code/`` says which attributes are parameters and buffers.
"""

from __future__ import annotations

import ast
import re
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor

from mmseg_siglip.weights.claims import check_archive, check_tensors
from mmseg_siglip.weights.stand_ins import STORAGE_DTYPES, Call, Held, Unpickler, strided

_CLASS_LINE = re.compile(r'class (\w+)\(Module\):')
_LIST_LINE = re.compile(r'  __(parameters|buffers)__ = (\[.*\])')


class _Inert:
    """Stands for an object of the archive's own classes: attributes, and no behaviour."""

    qualified_name = ''

    def __init__(self, *args: object) -> None:
        self.attributes: dict = {}

    def __setstate__(self, state: object) -> None:
        self.attributes = state if isinstance(state, dict) else {}


def _first(value: object, *rest: object) -> object:
    return value


_FUNCTIONS: dict[str, object] = {
    'torch._utils._rebuild_tensor_v2': Call(strided),
    'torch.jit._pickle.restore_type_tag': Call(_first),
    'torch.jit._pickle.build_intlist': Call(_first),
    'torch.jit._pickle.build_doublelist': Call(_first),
    'torch.jit._pickle.build_boollist': Call(_first),
    'torch.jit._pickle.build_tensorlist': Call(_first),
    'collections.OrderedDict': OrderedDict,
}


class _Unpickler(Unpickler):
    """Knows the globals that TorchScript writes, and refuses every other by name."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.read(f'{root}/data.pkl'), self._storage)
        self.archive = archive
        self.root = root
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> object:
        if module.split('.')[0] == '__torch__':
            return type(name, (_Inert,), {'qualified_name': f'{module}.{name}'})
        if module == 'torch' and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        if f'{module}.{name}' in _FUNCTIONS:
            return _FUNCTIONS[f'{module}.{name}']
        raise ValueError(f'it refers to {module}.{name}, which TorchScript weights do not need')

    def _storage(self, dtype: torch.dtype, key: str, _: int) -> Tensor:
        if key not in self.storages:
            raw = bytearray(self.archive.read(f'{self.root}/data/{key}'))
            empty = torch.empty(0, dtype=dtype)
            self.storages[key] = torch.frombuffer(raw, dtype=dtype) if raw else empty
        return self.storages[key]


def _archive_root(archive: zipfile.ZipFile) -> str | None:
    roots = {name.split('/')[0] for name in archive.namelist()}
    names = set(archive.namelist())
    for root in sorted(roots):
        if {f'{root}/data.pkl', f'{root}/constants.pkl'} <= names:
            return root
    return None


def _declared_tensors(archive: zipfile.ZipFile, root: str, name: str) -> set[str] | None:
    """Parameters and buffers that the class declares; None if its code does not list buffers."""
    module, _, class_name = name.rpartition('.')
    path = f'{root}/code/{module.replace(".", "/")}.py'
    if path not in archive.namelist():
        return None
    found: dict[str, list[str]] = {}
    current = ''
    for line in archive.read(path).decode('utf-8').splitlines():
        if header := _CLASS_LINE.match(line):
            current = header[1]
        elif current == class_name and (declaration := _LIST_LINE.match(line)):
            found[declaration[1]] = ast.literal_eval(declaration[2])
    if 'buffers' not in found:
        return None
    return {*found.get('parameters', ()), *found['buffers']}


def is_torchscript(path: str | Path) -> bool:
    """Whether the file is a TorchScript archive, told from its table of contents."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _archive_root(archive) is not None
    except Exception:  # zipfile has no one error for the many ways in which bytes can be wrong
        return False


def read_torchscript(path: str | Path) -> dict[str, Tensor]:
    """Parameters and buffers by dotted name, as ``torch.jit.load(path).state_dict()`` has them.

    Integers that the outermost module keeps as attributes (OpenAI's ``input_resolution``,
    ``context_length``, ``vocab_size``) are added as 0-d int64 tensors. All tensors are on the CPU
    in their stored precision.

    Raises:
        ValueError: the archive is damaged, or names a global that weights do not need.
    """
    try:
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            root = _archive_root(archive)
            if root is None:
                raise ValueError('it is not a TorchScript archive')
            if f'{root}/byteorder' in archive.namelist():
                order = archive.read(f'{root}/byteorder').decode()
                if order != 'little':
                    raise ValueError(f'its byte order is {order}, expected little')
            module = _Unpickler(archive, root).load()
            if not isinstance(module, _Inert):
                raise ValueError(f'it holds a {type(module).__name__}, expected a module')
            state: dict[str, Tensor] = {}
            declared: dict[str, set[str] | None] = {}

            def collect(owner: _Inert, prefix: str) -> None:
                name = owner.qualified_name
                if name not in declared:
                    declared[name] = _declared_tensors(archive, root, name)
                wanted = declared[name]
                for key, value in owner.attributes.items():
                    if isinstance(value, _Inert):
                        collect(value, f'{prefix}{key}.')
                    elif isinstance(value, Held) and (wanted is None or key in wanted):
                        state[f'{prefix}{key}'] = value.tensor

            collect(module, '')
            check_tensors(state, Path(path).stat().st_size)
    except ValueError as error:
        raise ValueError(f'{path} cannot be read: {error}.') from error
    except Exception as error:
        raise ValueError(f'{path} is a damaged TorchScript archive: {error}.') from error
    for key, value in module.attributes.items():
        if type(value) is int:
            state.setdefault(key, torch.tensor(value))
    return state
