"""What of a model runs through ``torch.compile``, while it trains or while it predicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass, replace
from functools import wraps
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

Phase = Literal['training', 'prediction']
CUDA_GRAPHS = (('backend', 'cudagraphs'), ('mode', 'reduce-overhead'), ('mode', 'max-autotune'))
"""Options of ``torch.compile`` by which a result lies where the next call writes its own."""


@dataclass(frozen=True)
class Compiled:
    """What methods of a module were compiled to, and when that is called."""

    phase: Phase
    methods: Mapping[Callable, Callable]


COMPILED: WeakKeyDictionary[nn.Module, Compiled] = WeakKeyDictionary()
"""By module. None of it is in the module: not in its ``state_dict``, nor in copies of it, such as
running means of the weights, which must not run the original's methods."""

PAUSES: list[object] = []
"""One for each `nothing_compiled` that is open."""


def compilable(method: Callable) -> Callable:
    """A method of a module that `compile_parts` compiles."""

    @wraps(method)
    def call(self: nn.Module, *args, **kwargs):
        found = COMPILED.get(self) if COMPILED else None
        if found is not None and found.phase == phase_of(self):
            return found.methods.get(method, method)(self, *args, **kwargs)
        return method(self, *args, **kwargs)

    call.compiles = method
    return call


def phase_of(module: nn.Module) -> Phase | None:
    """What a forward of it is now: validation while a model trains is neither."""
    if torch.is_grad_enabled():
        return 'training' if module.training else None
    return None if module.training or PAUSES else 'prediction'


@contextmanager
def nothing_compiled() -> Iterator[None]:
    """While open, predictions run as they are written."""
    pause = object()
    PAUSES.append(pause)
    try:
        yield
    finally:
        PAUSES.remove(pause)


def compile_parts(
    model: nn.Module, wanted: bool | Mapping[str, Any] | None, phase: Phase
) -> list[str] | None:
    """Compile the methods of a model and its parts that are `compilable`.

    Args:
        model: The model, which stays as it is.
        wanted: True or the options of ``torch.compile``; False or None, by which what was compiled
            before runs as it is written.
        phase: When the compiled ones are called.

    Returns:
        The methods, ``Class.name``; None if some are wanted and there are none.

    Raises:
        ValueError: `wanted` is something else.
    """
    if not isinstance(wanted, (bool, Mapping, type(None))):
        raise ValueError(f'compile: expected True or options of torch.compile, found {wanted}')
    found = []
    for module in model.modules():
        COMPILED.pop(module, None)
        methods = {
            name: member.compiles
            for name, member in class_members(type(module)).items()
            if hasattr(member, 'compiles')
        }
        if methods and wanted not in (None, False):
            options = {} if wanted is True else wanted
            compiled = {method: compile_method(method, options) for method in methods.values()}
            COMPILED[module] = Compiled(phase, compiled)
            found += [f'{type(module).__name__}.{name}' for name in methods]
    if not found and wanted not in (None, False):
        return None
    return list(dict.fromkeys(found))


def compile_method(method: Callable, options: Mapping[str, Any]) -> Callable:
    """`method` through ``torch.compile``, with results that stay as they are."""
    compiled = torch.compile(method, **options)
    if not set(CUDA_GRAPHS) & set(options.items()):
        return compiled
    return lambda *args, **kwargs: cloned(compiled(*args, **kwargs))


def cloned(found: Any) -> Any:
    """A result with copies of its tensors, which may be in tuples, lists and data classes."""
    if isinstance(found, Tensor):
        return found.clone()
    if isinstance(found, (tuple, list)):
        return type(found)(map(cloned, found))
    if is_dataclass(found):
        return replace(found, **{name: cloned(value) for name, value in vars(found).items()})
    return found


def class_members(kind: type) -> dict[str, Any]:
    """What instances of a class find in it by name, nothing evaluated."""
    return {name: value for base in reversed(kind.__mro__) for name, value in vars(base).items()}
