"""Tensors that are the same at each call: made once, and moved to a device once.

A tensor keeps the mode that it was made in: one of inference mode cannot be trained through, and
one of ``torch.export`` stands for no values. So what is kept is made outside of inference mode, and
while a program is traced nothing is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

import torch
from torch import Tensor

from mmseg_siglip.device import upload

T = TypeVar('T')


@contextmanager
def to_be_kept() -> Iterator[None]:
    """While open, tensors are made that later calls can use in any mode, even where the present
    one is in inference mode."""
    learning = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(learning):
        yield


class LastUsed:
    """The last used of what was made.

    Args:
        most: How many are kept.
        most_bytes: Of all of them; what is larger alone is not kept.
    """

    def __init__(self, most: int, *, most_bytes: int = 2**28) -> None:
        self.most, self.most_bytes = most, most_bytes
        self._held: OrderedDict[Hashable, object] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._held)

    def __call__(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, or gave for the same key, which says all that it depends on."""
        if type(torch.empty(0, device='cpu')) is not Tensor or torch.compiler.is_compiling():
            return make()
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        with to_be_kept(), torch.no_grad():
            made = make()
        if held_bytes(made) > self.most_bytes:
            return made
        with self._lock:
            self._held[key] = made
            held = sum(map(held_bytes, self._held.values()))
            while len(self._held) > self.most or held > self.most_bytes:
                held -= held_bytes(self._held.popitem(last=False)[1])
        return made

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._held.clear()


def held_bytes(made: object) -> int:
    """Of the tensors in nested tuples and lists."""
    if isinstance(made, Tensor):
        return made.nbytes
    return sum(map(held_bytes, made)) if isinstance(made, (tuple, list)) else 0


CONSTANTS = LastUsed(256)


def channels(values: Sequence[float], like: Tensor) -> Tensor:
    """A number for each channel of an image, (C, 1, 1), of the type and on the device of `like`."""
    shape = (len(values), 1, 1)
    return constant(tuple(values), dtype=like.dtype, device=like.device, shape=shape)


def constant(
    values: tuple, *, dtype: torch.dtype, device: torch.device, shape: tuple[int, ...] | None = None
) -> Tensor:
    """A tensor of these values, which may be nested; nobody may write to it.

    Args:
        values: The values.
        dtype: Its type.
        device: Its device, which does not wait for it.
        shape: Its shape, if it is not that of `values`.
    """

    def make() -> Tensor:
        made = torch.tensor(values, dtype=dtype, device='cpu')
        return upload(made if shape is None else made.reshape(shape), device)

    return CONSTANTS((values, dtype, str(device), shape), make)
