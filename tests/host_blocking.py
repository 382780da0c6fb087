"""What a GPU would make the host wait for, counted on a machine that has none.

A `Distant` tensor says that it is on ``cuda:0`` and keeps its values in the host's memory, where
`Counter` computes with them: so every decision that a program makes by values is made, and every
step between the two devices is seen. What torch refuses to mix, the counter refuses, too.
"""

from __future__ import annotations

import traceback
import warnings
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device('cuda', 0)
aten = torch.ops.aten
PROPERTIES = SimpleNamespace(total_memory=16 * 2**30, name='a GPU that is not there')
WAIT = {
    aten._local_scalar_dense,
    aten._unique2,
    aten.bincount,
    aten.equal,
    aten.linalg_cholesky_ex,
    aten._linalg_eigh,
    aten._linalg_svd,
    aten.masked_select,
    aten.nonzero,
    aten.repeat_interleave,
    aten.unique_consecutive,
    aten.unique_dim,
}
"""Operations whose result's size or value the host has to know."""
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
COPIES = {aten._to_copy, aten.copy_}
PLACES = ('mmseg_siglip/', 'transformers/', 'mmseg/', 'mmengine/')


class Distant(Tensor):
    """Values that are there, on a device that is not.

    Attributes:
        held: The values, on the CPU.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Distant:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
            requires_grad=False,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f'{func}: expected a call inside of Counter')

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __repr__(self, **_: Any) -> str:
        return f'Distant{tuple(self.shape)}'


@dataclass(eq=False)
class Counter(TorchDispatchMode):
    """Counts while it is entered, which `distant` does.

    Attributes:
        blocking: Operations that make the host wait, by the line that asks for them.
        copies: Those between the devices, by their line and direction, waiting or not.
        fetched: Bytes of those to the host.
        kernels: Operations on the device.
    """

    blocking: Tally = field(default_factory=Tally)
    copies: Tally = field(default_factory=Tally)
    fetched: int = 0
    kernels: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def clear(self) -> None:
        self.blocking, self.copies = Tally(), Tally()
        self.fetched = self.kernels = 0

    def wait(self, *_: Any) -> None:
        """What stands for a synchronisation that a program asks for."""
        self._count(self.blocking, 'synchronize')

    @property
    def waits(self) -> int:
        return self.blocking.total()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, packet = dict(kwargs or {}), func.overloadpacket
        if packet is aten._fused_sdp_choice:
            return 0  # as it is written, of which the CPU has a kernel
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        far = any(isinstance(x, Distant) for x in tensors)
        if packet in INDEXING:
            self._index(func, args)
        elif far and packet not in COPIES:
            self._refuse_a_mixture(func, tensors)
        wanted = kwargs.get('device')
        if wanted is not None:
            kwargs['device'] = torch.device('cpu')
        result_far = far if wanted is None else torch.device(wanted).type == 'cuda'
        if packet in COPIES:
            source = args[1] if packet is aten.copy_ else args[0]
            place = isinstance(args[0], Distant) if packet is aten.copy_ else result_far
            result_far = place
            late = args[2] if packet is aten.copy_ and len(args) > 2 else False
            self._copy(source, place, kwargs.get('non_blocking', late))
        elif far and packet in WAIT:
            self._count(self.blocking, func.__name__)
        self.kernels += far or result_far
        origin = {id(x.held): x for x in tensors if isinstance(x, Distant)}
        found = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if not result_far:
            return found

        def there(x: Any) -> Any:
            return origin[id(x)] if id(x) in origin else Distant(x) if isinstance(x, Tensor) else x

        return tree_map(there, found)

    def _copy(self, source: Tensor, to_device: bool, late: bool) -> None:
        if isinstance(source, Distant) == to_device or (to_device and not source.dim() and late):
            return
        self._count(self.copies, 'to the device' if to_device else 'to the host')
        self.fetched += 0 if to_device else source.nbytes
        if not late or (to_device and not getattr(source, 'pinned', False)):
            self._count(self.blocking, 'to the device' if to_device else 'to the host')

    def _index(self, func, args: tuple) -> None:
        self_, indices = args[0], [index for index in args[1] if index is not None]
        if not isinstance(self_, Distant):
            if any(isinstance(index, Distant) for index in indices):
                raise RuntimeError(f'{func}: indices should be on the CPU')
            return
        masks = [index.dtype in (torch.bool, torch.uint8) for index in indices]
        value = args[2] if len(args) > 2 else None
        fills = value is not None and value.numel() == 1 and not isinstance(value, Distant)
        if any(masks) and not (fills and all(masks)):
            self._count(self.blocking, f'{func.__name__} by a mask')
        for index in indices:
            if not isinstance(index, Distant):
                self._copy(index, True, False)

    def _refuse_a_mixture(self, func, tensors: list[Tensor]) -> None:
        near = [x for x in tensors if not isinstance(x, Distant) and x.dim()]
        if near:
            raise RuntimeError(
                f'{func}: expected all tensors on one device, found {near[0].dtype} '
                f'{tuple(near[0].shape)} on the CPU'
            )

    @staticmethod
    def _count(tally: Tally, what: str) -> None:
        frames = [f for f in traceback.extract_stack() if any(p in f.filename for p in PLACES)]
        place = frames[-1] if frames else traceback.extract_stack()[0]
        name = place.filename.rpartition('site-packages/')[2].rpartition('mmseg_siglip/')[2]
        tally[f'{name}:{place.lineno} {what}: {place.line}'] += 1


def _held(x: Any) -> Any:
    return x.held if isinstance(x, Distant) else x


class _Stream:
    def __init__(self, counter: Counter) -> None:
        self.synchronize = counter.wait

    def record_event(self) -> _Stream:
        """What can be waited for as well."""
        return self


def _pinned(tensor: Tensor, *_: Any) -> Tensor:
    tensor = tensor.clone()
    tensor.pinned = True
    return tensor


@contextmanager
def distant() -> Iterator[Counter]:
    """A GPU to name, ``DEVICE``, and what counts its operations."""
    torch._C._ensureCUDADeviceGuardSet()
    counter = Counter()
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    lift = torch._C._only_lift_cpu_tensors()
    patches = (
        patch.object(torch.cuda, '_lazy_init', lambda: None),
        patch.object(torch.cuda, 'synchronize', counter.wait),
        patch.object(torch.cuda, 'current_stream', lambda *_: _Stream(counter)),
        patch.object(torch.cuda, 'is_bf16_supported', lambda *_: True),
        patch.object(torch.cuda, 'get_device_properties', lambda *_: PROPERTIES),
        patch.object(torch.cuda.amp.common, 'amp_definitely_not_available', lambda: False),
        patch.object(Tensor, 'pin_memory', _pinned),
    )
    for each in patches:
        each.start()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with (
            warnings.catch_warnings(),
            torch.backends.cudnn.flags(enabled=False),
            counter,
            torch.no_grad(),
        ):
            warnings.filterwarnings('ignore', message='.*CUDA is not available.*')
            yield counter
    finally:
        torch._C._set_only_lift_cpu_tensors(lift)
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
        for each in patches:
            each.stop()


def far_module(module: nn.Module) -> nn.Module:
    """`module` on the device, within `distant`."""
    return module.to(DEVICE)


def near(x: Tensor) -> Tensor:
    """The values of a result, without counting."""
    return _held(x)


def images(*sizes: tuple[int, int]) -> list[Tensor]:
    """A picture (3, H, W) uint8 of each size."""
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(3, *size, generator=generator) * 255).to(torch.uint8) for size in sizes]


def count(call: Callable[[], Any], counter: Counter) -> Any:
    """What `call` gives at its second time, which alone is counted: by the first, embeddings of
    words and all that is kept are there."""
    call()
    counter.clear()
    return call()
