"""What a checkpoint claims to hold, measured by its own length before room is made for it.

Without it a file of some kilobytes makes a reader ask for gigabytes: by compressed zeros, by an
index into a list, by a tensor of many elements over a storage of one, by a width in a JSON file.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickletools import code2op, genops
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

SLACK = 2**20
"""Bytes that may be claimed by any file."""
SHARED = 16
"""As often a file may hold the same bytes under different names."""
MEMO = ('PUT', 'BINPUT', 'LONG_BINPUT')
RECALL = ('GET', 'BINGET', 'LONG_BINGET')
STRINGS = ('UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8')


def check_archive(path: str | Path) -> None:
    """Refuse a zip file whose members claim to be larger than it is.

    What torch writes is stored as it is; only the text of programs is compressed.

    Raises:
        ValueError: They do.
        Exception: It is no whole zip file, in the words of `zipfile`.
    """
    held = Path(path).stat().st_size
    with zipfile.ZipFile(path) as archive:
        claimed = sum(info.file_size for info in archive.infolist())
    if claimed > 2 * held + SLACK:
        raise ValueError(f'its {held} bytes claim to hold {claimed}')


def check_pickle(data: bytes) -> None:
    """Refuse a pickle that numbers its objects higher than it has bytes, for as many a reader makes
    room.

    Raises:
        ValueError: It does, or it is no whole pickle.
    """
    file = io.BytesIO(data)
    while code := file.read(1):
        step = code2op.get(code.decode('latin-1'))
        if step is None:
            raise ValueError(f'expected a pickle, found the byte {code!r} at {file.tell() - 1}')
        if step.name == 'STOP':
            return
        if step.arg is None:
            continue
        text = step.arg.name == 'stringnl'  # not always ASCII, as `genops` believes
        argument = file.readline() if text else step.arg.reader(file)
        if step.name in MEMO and int(argument) > len(data):
            raise ValueError(f'its {len(data)} bytes claim to hold {int(argument)} objects')
    raise ValueError('expected a whole pickle, found no end')


class Bounded:
    """A file to read, of which no more is asked than is left: room is made for what is asked."""

    def __init__(self, file: BinaryIO) -> None:
        self.readline, self.tell = file.readline, file.tell
        here = file.tell()
        self._file, self._end = file, file.seek(0, io.SEEK_END)
        file.seek(here)

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, self._end - self.tell()))


def globals_of(pickle: bytes | BinaryIO) -> list[str]:
    """The names ``module.name`` that a pickle refers to, up to its end or where it is damaged.

    A file is left behind the pickle's end.
    """
    found, strings, memo = [], [], {}
    pushed = None
    try:
        for code, argument, _ in genops(pickle if isinstance(pickle, bytes) else Bounded(pickle)):
            if code.name in MEMO or code.name == 'MEMOIZE':
                memo[len(memo) if argument is None else int(argument)] = pushed
                continue
            pushed = memo.get(argument) if code.name in RECALL else argument
            if not isinstance(pushed, str) or code.name not in STRINGS + RECALL:
                pushed = None
            if pushed is not None:
                strings.append(pushed)
            elif code.name in ('GLOBAL', 'INST'):
                found.append(argument.replace(' ', '.'))
            elif code.name == 'STACK_GLOBAL' and len(strings) > 1:
                found.append('.'.join(strings[-2:]))
    except ValueError:  # damaged
        pass
    return list(dict.fromkeys(name.replace('__builtin__.', 'builtins.') for name in found))


def check_tensors(checkpoint: Any, held: int) -> None:
    """Refuse a checkpoint of which a tensor claims more bytes than the file has, or all together
    many times as many.

    Args:
        checkpoint: Tensors, and mappings and lists of them.
        held: Bytes of the file.

    Raises:
        ValueError: One does, or it is no plain tensor on the CPU.
    """
    total = 0
    for name, tensor in tensors_of(checkpoint):
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
            raise ValueError(f'expected plain tensors, found {name}, which is none')
        if tensor.device.type != 'cpu':
            raise ValueError(f'expected tensors on the CPU, found {name} on {tensor.device}')
        claimed = tensor.numel() * tensor.element_size()
        total += claimed
        if claimed > held + SLACK or total > SHARED * held + SLACK:
            raise ValueError(f'its {held} bytes claim to hold {name} of {claimed}')


def tensors_of(checkpoint: Any) -> Iterator[tuple[str, Tensor]]:
    """Each tensor in nested mappings and lists, once, with the key that it has there."""
    seen, left = set(), [('', checkpoint)]
    while left:
        name, value = left.pop()
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, (Mapping, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            left.extend((str(key), item) for key, item in items)


def size_of(state: Mapping[str, Tensor]) -> int:
    """Bytes of tensors."""
    return sum(value.numel() * value.element_size() for value in state.values())


def check_size(build: Callable[[], nn.Module], held: int, source: object) -> None:
    """Refuse a configuration whose model has more weights than the checkpoint has bytes.

    Args:
        build: Makes the model; here without memory.
        held: Bytes of the weights.
        source: What messages call it.

    Raises:
        ValueError: It has, or no model can be built.
    """
    with torch.device('meta'):
        model = build()
    wanted = sum(weight.numel() for weight in (*model.parameters(), *model.buffers()))
    if wanted > held + SLACK:
        raise ValueError(
            f'{source}: expected the configuration of a model that {held} bytes of weights can '
            f'fill, found one of {wanted} weights'
        )


@contextmanager
def room_for(most: int, source: object) -> Iterator[None]:
    """Build modules of so many weights at most.

    They are counted when a module takes them, before values are drawn: until then the system gives
    no memory.

    Args:
        most: Number of weights, buffers included.
        source: What messages call that which asks for them.

    Raises:
        ValueError: There are more.
    """
    seen, count = set(), 0

    def check(module: nn.Module, name: str, value: Tensor | None) -> None:
        nonlocal count
        if value is None or value.device.type == 'meta' or value.data_ptr() in seen:
            return
        seen.add(value.data_ptr())
        count += value.numel()
        if count > most:
            raise ValueError(
                f'{source}: expected a model of at most {most} weights, as many as its files can '
                f'fill, found more ({name} {tuple(value.shape)})'
            )

    hooks = (
        register_module_parameter_registration_hook(check),
        register_module_buffer_registration_hook(check),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
