"""Weights in the format that products run in, cast once instead of in every forward."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmseg_siglip.kept import to_be_kept
from mmseg_siglip.models.compiled import nothing_compiled
from mmseg_siglip.models.guides.frozen import Frozen
from mmseg_siglip.precision import autocast, compute_dtype


class Casts(TorchDispatchMode):
    """Notes, while it is entered, which weights are cast and which are read as they are.

    Attributes:
        dtype: To which they are cast.
        cast, read: The weights by their ``id``. Those of an `nn.MultiheadAttention` that is called
            count as read: their formats decide which of its ways of computing it takes.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.cast: dict[int, Tensor] = {}
        self.read: dict[int, Tensor] = {}

    def __enter__(self) -> Casts:
        self._hook = register_module_forward_pre_hook(self._note)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._hook.remove()
        super().__exit__(*error)

    def _note(self, module: nn.Module, *_: Any) -> None:
        if isinstance(module, nn.MultiheadAttention):
            self.read.update({id(weight): weight for weight in module.parameters()})

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None):
        kwargs = kwargs or {}
        is_cast = func is torch.ops.aten._to_copy.default and kwargs.get('dtype') == self.dtype
        found = self.cast if is_cast else self.read
        found.update({id(x): x for x in tree_leaves((args, kwargs)) if isinstance(x, nn.Parameter)})
        return func(*args, **kwargs)


@dataclass(eq=False)
class HeldWeight:
    """A weight of a module, and what takes its place.

    Attributes:
        module: Whose weight it is.
        name: Its name there.
        weight: It, as it was when it was cast.
        state: What tells whether it was changed since.
        held: It, cast.
    """

    module: nn.Module
    name: str
    weight: Tensor | None = None
    state: tuple = ()
    held: nn.Parameter | None = None

    def renew(self, dtype: torch.dtype) -> None:
        """Cast the weight, unless that is done."""
        weight = self.module._parameters.get(self.name)
        if weight is None or weight.dtype != torch.float32 or weight.is_inference():
            self.weight = self.held = None
            return
        state = dtype, weight.device, weight._version, weight.data_ptr()
        if weight is not self.weight or state != self.state:
            with to_be_kept(), torch.no_grad():
                held = nn.Parameter(weight.to(dtype), requires_grad=False)
            self.weight, self.state, self.held = weight, state, held

    def put(self) -> None:
        """Have the module compute with what is held."""
        if self.held is not None:
            self.module._parameters[self.name] = self.held

    def restore(self) -> None:
        """Give the module back its own."""
        if self.held is not None:
            self.module._parameters[self.name] = self.weight


class HeldWeights(nn.Module):
    """``autocast`` for a model that predicts, which casts each weight once.

    Plain ``autocast`` casts every float32 weight anew each time that a product asks for it. Here
    the first forward shows which weights those are; of them, the ones that nothing else reads are
    kept in the format that they are cast to, and stand in the model in place of the float32 ones
    while later forwards run. Results are those of ``autocast``, to the bit. In between, and
    wherever gradients are wanted, a model has its own weights; so has a checkpoint. What is kept
    takes half as many bytes again as the weights that it is of.

    A weight that was changed is cast again. As a child of the model this sees `train`, by which
    all is forgotten, since what is written through ``.data`` does not count as a change. While a
    forward runs, other threads find the model's weights in the other format, too, and what they
    load then is lost. So it is for who owns a model that only predicts: see `hold_weights`.

    Attributes:
        on: Whether weights are held; if not, this is `autocast`.
    """

    on = False

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()
        self._open = 0
        self._watched = False
        self._inside: list[HeldWeight] = []
        self.forget()

    def __reduce__(self) -> tuple:
        return HeldWeights, ()

    def forget(self) -> None:
        """Let go of all; not while a forward runs."""
        self._where: tuple | None = None
        self._known: set[Hashable] = set()
        self._read: set[tuple[nn.Module, str]] = set()
        self._held: dict[tuple[nn.Module, str], HeldWeight] = {}

    def train(self, mode: bool = True) -> HeldWeights:
        self.forget()
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> HeldWeights:
        self.forget()
        return super()._apply(fn, recurse)

    def autocast(
        self, model: nn.Module, precision: str, device: torch.device, *what: Hashable
    ) -> AbstractContextManager[bool]:
        """`mmseg_siglip.precision.autocast`, in which nothing casts what is held.

        Args:
            model: What computes.
            precision: Its number format.
            device: Where it computes.
            what: What tells which of its weights are used: the first forward of each is watched.

        Returns:
            A context; where it is entered outside of a compiled function, it says whether the
            forward is watched, which then must not be a compiled one.
        """
        plain = autocast(precision, device)
        if torch.compiler.is_compiling():
            return plain
        dtype = compute_dtype(precision, device)
        if not self.on or dtype == torch.float32 or torch.is_grad_enabled():
            return unwatched(plain)
        if self._where != (dtype, device.type):  # each device has its own list of what is cast
            self.forget()
            self._where = dtype, device.type
        if what in self._known:
            return self._holding(plain, dtype)
        return self._watching(model, plain, dtype, what)

    @contextmanager
    def _watching(
        self,
        model: nn.Module,
        plain: torch.autocast,
        dtype: torch.dtype,
        what: tuple[Hashable, ...],
    ) -> Iterator[bool]:
        with self._lock:
            alone = not self._open and not self._watched
            self._watched = self._watched or alone
        try:
            with plain, nothing_compiled(), Casts(dtype) if alone else nullcontext() as seen:
                yield alone
            if alone:
                self._learn(model, seen, dtype)
                self._known.add(what)
        finally:
            if alone:
                self._watched = False

    def _learn(self, model: nn.Module, seen: Casts, dtype: torch.dtype) -> None:
        for module in all_modules(model):
            for name, weight in module._parameters.items():
                place = module, name
                if id(weight) in seen.read:
                    self._read.add(place)
                    self._held.pop(place, None)
                elif id(weight) in seen.cast and place not in self._read:
                    self._held.setdefault(place, HeldWeight(module, name))
        for each in self._held.values():
            each.renew(dtype)

    @contextmanager
    def _holding(self, plain: torch.autocast, dtype: torch.dtype) -> Iterator[bool]:
        try:
            with self._lock:
                self._open += 1
                if self._open == 1 and not self._watched:
                    for each in self._held.values():
                        each.renew(dtype)
                        each.put()
                        self._inside.append(each)
            with plain:
                yield False
        finally:
            with self._lock:
                self._open -= 1
                if not self._open:
                    for each in self._inside:
                        each.restore()
                    self._inside = []


def hold_weights(model: nn.Module) -> None:
    """Have the `HeldWeights` in a model hold weights: it is only to predict from now on, in one
    thread at a time."""
    for module in model.modules():
        if isinstance(module, HeldWeights):
            module.on = True


@contextmanager
def unwatched(plain: torch.autocast) -> Iterator[bool]:
    """A context that says so."""
    with plain:
        yield False


def all_modules(model: nn.Module) -> Iterator[nn.Module]:
    """A model's modules, and those of the second models in it that are no children."""
    for module in model.modules():
        yield module
        if isinstance(module, Frozen):
            yield from module.model.modules()
