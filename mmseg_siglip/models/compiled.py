"""What of a model runs through ``torch.compile`` while it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

COMPILED: WeakKeyDictionary[nn.Module, dict[Callable, Callable]] = WeakKeyDictionary()
"""Of each module, methods and what they are compiled to. None of it is in the module: not in its
``state_dict``, nor in copies of it, such as running means of the weights, which must not run the
original's methods."""


def compiled_in_training(method: Callable) -> Callable:
    """A method of a module that `compile_training` compiles.

    Prediction, and what runs without gradients, is never compiled.
    """

    @wraps(method)
    def call(self: nn.Module, *args, **kwargs):
        if COMPILED and self.training and torch.is_grad_enabled():
            return COMPILED.get(self, {}).get(method, method)(self, *args, **kwargs)
        return method(self, *args, **kwargs)

    call.compiles = method
    return call


def compile_training(model: nn.Module, wanted: bool | Mapping[str, Any] | None) -> list[str] | None:
    """Compile the methods of a model and its parts that are `compiled_in_training`.

    Args:
        model: The model, which stays as it is.
        wanted: True or the options of ``torch.compile``; False or None, by which what was compiled
            before runs as it is written.

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
            COMPILED[module] = {m: torch.compile(m, **options) for m in methods.values()}
            found += [f'{type(module).__name__}.{name}' for name in methods]
    if not found and wanted not in (None, False):
        return None
    return list(dict.fromkeys(found))


def class_members(kind: type) -> dict[str, Any]:
    """What instances of a class find in it by name, nothing evaluated."""
    return {name: value for base in reversed(kind.__mro__) for name, value in vars(base).items()}
