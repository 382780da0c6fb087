"""Files of ``torch.save`` that hold objects beside their weights, such as those of MMEngine's own
Runner, read without them."""

from __future__ import annotations

import mmap
import struct
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from pickletools import genops
from typing import Any

import torch
from torch import Tensor
from torch.serialization import MAGIC_NUMBER

from mmseg_siglip.weights.claims import SHARED, SLACK
from mmseg_siglip.weights.stand_ins import Array, StandIn, Unpickler


class NoTorchFile(ValueError):
    """It is no file of ``torch.save``."""


def read_without_objects(
    path: Path, *, tensors: bool = True, first: Sequence[str] = ()
) -> tuple[Any, dict[str, str]]:
    """A checkpoint's tensors and plain values.

    NumPy's arrays of numbers become tensors and its scalars Python numbers; MMEngine's histories
    become dicts of tensors.

    Args:
        path: The file, zip or of the format before torch 1.6.
        tensors: False leaves them without values, on the meta device.
        first: Keys of the checkpoint; what these share with others and is left out counts as
            theirs.

    Returns:
        The checkpoint, and what was left out: its place, such as ``meta.hook``, to its class.

    Raises:
        ValueError: It is damaged, or claims more than it holds (see `Unwanted` and `NoTorchFile`).
        Exception: It is damaged, in the words of the library that found out.
    """
    read = _read_zip if zipfile.is_zipfile(path) else _read_old
    plain = _Plain(SHARED * path.stat().st_size + SLACK)
    content = read(path, tensors)
    for name in first:
        if isinstance(content, dict) and name in content:
            plain.of(content[name], name)
    return plain.of(content, ''), plain.left_out


def _read_zip(path: Path, tensors: bool) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith('/data.pkl')]
        if len(names) != 1:
            raise NoTorchFile('it is no file of torch.save')
        root = names[0].removesuffix('/data.pkl')
        if f'{root}/byteorder' in archive.namelist():
            _require_little(archive.read(f'{root}/byteorder') == b'little')
        storages: dict[str, Tensor] = {}

        def storage(dtype: torch.dtype, key: str, numel: int) -> Tensor:
            if key not in storages:
                member = archive.getinfo(f'{root}/data/{key}')
                held = member.file_size // dtype.itemsize
                if tensors and held:
                    storages[key] = torch.frombuffer(bytearray(archive.read(member)), dtype=dtype)
                else:
                    storages[key] = torch.empty(held, dtype=dtype, device=_device(tensors))
            return storages[key].view(dtype)

        return Unpickler(archive.read(names[0]), storage).load()


def _read_old(path: Path, tensors: bool) -> Any:
    """Pickles one after the other: a number, a version, the machine, the content, the keys of the
    storages; and these, each after its number of elements."""
    held = path.stat().st_size
    storages: dict[str, Tensor] = {}
    claimed = 0

    def storage(dtype: torch.dtype, key: str, numel: int, view: tuple | None) -> Tensor:
        if key not in storages:
            nonlocal claimed
            claimed += numel  # of a byte at least
            if not 0 <= numel * dtype.itemsize <= held or claimed > held:
                raise ValueError(f'its {held} bytes claim to hold {claimed} numbers')
            storages[key] = torch.empty(numel, dtype=dtype, device=_device(tensors))
        if view is None:
            return storages[key]
        _, start, count = view
        return storages[key].narrow(0, start, count)

    with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if Unpickler(_pickle_in(data), storage).load() != MAGIC_NUMBER:
            raise NoTorchFile('it is no file of torch.save')
        Unpickler(_pickle_in(data), storage).load()
        _require_little(Unpickler(_pickle_in(data), storage).load()['little_endian'])
        content = Unpickler(_pickle_in(data), storage).load()
        for key in Unpickler(_pickle_in(data), storage).load() if tensors else ():
            target = storages[str(key)]
            (count,) = struct.unpack('<q', data.read(8))
            raw = data.read(target.numel() * target.itemsize)
            if count != target.numel() or len(raw) != target.numel() * target.itemsize:
                raise ValueError(f'storage {key} is of another length')
            if raw:
                target.copy_(torch.frombuffer(bytearray(raw), dtype=target.dtype))
    return content


def _device(tensors: bool) -> str:
    return 'cpu' if tensors else 'meta'


def _require_little(little: bool) -> None:
    if not little:
        raise ValueError('its byte order is big, expected little')


def _pickle_in(data: mmap.mmap) -> bytes:
    """The bytes of the pickle that begins where `data` stands, and goes past it."""
    start = data.tell()
    for _ in genops(data):
        pass
    end = data.tell()
    data.seek(start)
    return data.read(end - start)


class _Plain:
    """Turns what `Unpickler` read into plain values, each object once.

    Args:
        room: Bytes that arrays may take.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.left_out: dict[str, str] = {}
        self._seen: dict[int, Any] = {}
        self._kept: list[Any] = []  # what is in `_seen` must stay where it is

    def of(self, value: Any, where: str) -> Any:
        """The plain form of a value at a place, or `NOTHING`."""
        if id(value) not in self._seen:
            self._kept.append(value)
            self._seen[id(value)] = found = self._new(value, where)
            return found
        return self._seen[id(value)]

    def _new(self, value: Any, where: str) -> Any:
        if isinstance(value, StandIn):
            try:
                value, array = value.plain(), isinstance(value, Array)
            except (ValueError, TypeError, KeyError, AttributeError, IndexError):
                return self._leave_out(where, value.named or type(value).__name__)
            self.room -= value.nbytes if array else 0
            if self.room < 0:
                raise ValueError('it claims to hold more arrays than its bytes')
            return self.of(value, where)
        if isinstance(value, Namespace):
            return Namespace(**self._items(vars(value), where, {}))
        if isinstance(value, (OrderedDict, dict)):
            plain = self._seen[id(value)] = type(value)()
            if hasattr(value, '_metadata'):  # torch keeps module versions here
                plain._metadata = self.of(value._metadata, f'{where}._metadata')
            return self._items(value, where, plain)
        if isinstance(value, list):
            plain = self._seen[id(value)] = []
            plain.extend(self._each(value, where))
            return plain
        if isinstance(value, (tuple, set, frozenset)) and type(value) is not torch.Size:
            return type(value)(self._each(value, where))
        if isinstance(value, PLAIN):
            return value
        return self._leave_out(where, getattr(value, 'named', '') or type(value).__name__)

    def _items(self, value: dict, where: str, plain: dict) -> dict:
        for key, item in dict.items(value):
            place = (f'{where}.{key}' if where else str(key))[:SHOWN]
            key, item = self.of(key, place), self.of(item, place)
            if key is not NOTHING and item is not NOTHING:
                plain[key] = item
        return plain

    def _each(self, value: Any, where: str) -> list:
        items = (self.of(item, f'{where}[{number}]'[:SHOWN]) for number, item in enumerate(value))
        return [item for item in items if item is not NOTHING]

    def _leave_out(self, where: str, name: str) -> Any:
        self.left_out[where] = name
        return NOTHING


SHOWN = 200
"""Characters of a place: beyond it places that nest deep would fill the memory."""
NOTHING = object()
PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    Tensor,
    torch.dtype,
    torch.device,
    torch.Size,
)
