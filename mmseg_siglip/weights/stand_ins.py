"""A pickle read by an interpreter that has tensors, arrays and plain values; every other object in
it is an inert stand-in, which remembers what it was called and nothing else can be done with.

Nothing that a pickle names is imported: what an interpreter of pickles could call, or change by the
state that it sets, are the classes below alone.
"""

from __future__ import annotations

import io
import pickle
import sys
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmseg_siglip.weights.claims import SLACK, check_pickle

STORAGE_DTYPES = {
    'DoubleStorage': torch.float64,
    'FloatStorage': torch.float32,
    'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16,
    'LongStorage': torch.int64,
    'IntStorage': torch.int32,
    'ShortStorage': torch.int16,
    'CharStorage': torch.int8,
    'ByteStorage': torch.uint8,
    'BoolStorage': torch.bool,
}
PYTHON_2 = {'__builtin__': 'builtins', 'copy_reg': 'copyreg'}
DATA_MODULES = {'collections', 'datetime', 'decimal', 'enum', 'fractions', 'pathlib', 'uuid'}
DATA_NAMES = {
    '_codecs.encode',
    'argparse.Namespace',
    'builtins.complex',
    'builtins.dict',
    'builtins.frozenset',
    'builtins.getattr',  # MMEngine's histories hold their own methods
    'builtins.list',
    'builtins.object',
    'builtins.set',
    'builtins.tuple',
    'copyreg._reconstructor',
    'functools.partial',
    'types.SimpleNamespace',
}
"""Of Python's own modules what checkpoints hold beside their weights; a file that names anything
else of them, such as ``os.system``, is refused."""
HISTORY = 'mmengine.logging.history_buffer.HistoryBuffer'
ARRAY_PARTS = ('numpy.core.multiarray', 'numpy._core.multiarray', 'numpy._core.numeric')


class Unwanted(ValueError):
    """The name of what no checkpoint needs."""


def may_be_left_out(name: str) -> bool:
    """Whether a checkpoint can be read without what is called so."""
    module, _, rest = name.partition('.')
    module = PYTHON_2.get(module, module)
    if f'{module}.{rest}' in DATA_NAMES or module in DATA_MODULES:
        return True
    return module not in sys.stdlib_module_names


class StandIn:
    """An object of some class: its arguments and its state, and no behaviour."""

    __slots__ = ('arguments', 'state')
    named = ''

    def __new__(cls, *arguments: Any, **_: Any) -> StandIn:
        self = super().__new__(cls)
        self.arguments, self.state = arguments, None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    extend = add = append

    def plain(self) -> Any:
        """What it was, if that is a plain value.

        Raises:
            ValueError: It is none.
        """
        raise ValueError(self.named)


class Held(StandIn):
    """A tensor, out of reach of the pickle."""

    __slots__ = ('tensor',)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __setstate__(self, state: Any) -> None:
        raise ValueError('it changes a tensor')

    def plain(self) -> Tensor:
        return self.tensor


class NumberType(StandIn):
    """NumPy's dtype of numbers."""

    __slots__ = ()
    named = 'numpy.dtype'

    def number(self) -> np.dtype:
        """The dtype.

        Raises:
            ValueError: It is of no numbers.
        """
        kind, size = self.arguments[0][:1], self.arguments[0][1:]
        order = self.state[1] if isinstance(self.state, tuple) else '='
        if kind not in 'biufc' or not size.isdecimal() or order not in '<>=|':
            raise ValueError(f'numpy.dtype {self.arguments[0]}')
        return np.dtype(f'{order}{kind}{size}')


class Array(StandIn):
    """An array of numbers, which becomes a tensor."""

    __slots__ = ()
    named = 'numpy.ndarray'

    def plain(self) -> Tensor:
        _, shape, kind, fortran, raw = self.state
        if not isinstance(kind, NumberType) or not isinstance(raw, bytes):
            raise ValueError(self.named)
        array = np.frombuffer(raw, kind.number()).reshape(shape, order='F' if fortran else 'C')
        return torch.from_numpy(array.astype(array.dtype.newbyteorder('=')))


class Scalar(StandIn):
    """A number of NumPy's, which becomes Python's."""

    __slots__ = ()
    named = 'numpy.generic'

    def plain(self) -> bool | int | float | complex:
        kind, raw = self.arguments
        if not isinstance(kind, NumberType) or not isinstance(raw, bytes):
            raise ValueError(self.named)
        (number,) = np.frombuffer(raw, kind.number()).tolist()
        return number


class Arguments(StandIn):
    """Arguments of a command."""

    __slots__ = ()
    named = 'argparse.Namespace'

    def plain(self) -> Namespace:
        return Namespace(**self.state)


class History(StandIn):
    """MMEngine's history of a scalar, which becomes what `Runner` saves of one."""

    __slots__ = ()
    named = HISTORY

    def plain(self) -> dict[str, Any]:
        state = self.state
        return dict(
            values=state['_log_history'],
            counts=state['_count_history'],
            max_length=state['max_length'],
        )


class Call:
    """A function that a pickle may call, and not change."""

    __slots__ = ('function',)

    def __init__(self, function: Callable) -> None:
        self.function = function

    def __setstate__(self, state: Any) -> None:
        raise ValueError('it changes a function')

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


def strided(storage: Held, offset: int, size: tuple, stride: tuple, *_: Any) -> Held:
    return Held(storage.tensor.as_strided(tuple(size), tuple(stride), offset))


def _strided_of(storage: Held, offset: int, size: tuple, stride: tuple, *rest: Any) -> Held:
    return strided(Held(storage.tensor.view(rest[2])), offset, size, stride)


def _same(tensor: Held, *_: Any) -> Held:
    return tensor


def _of_type(function: Any, kind: Any, arguments: tuple, state: Any) -> Any:
    return function(*arguments) if isinstance(function, Call) else _made(kind)


def _made(kind: Any, *_: Any) -> StandIn:
    if isinstance(kind, type) and issubclass(kind, StandIn):
        return kind()
    return stand_in(type(kind).__name__)()  # what it holds may be larger than the file, as text


def stand_in(name: str) -> type[StandIn]:
    """A class whose objects are left out under a name."""
    return type('StandIn', (StandIn,), {'__slots__': (), 'named': name})


KNOWN: dict[str, Any] = {
    'argparse.Namespace': Arguments,
    'builtins.complex': complex,
    'builtins.frozenset': frozenset,
    'builtins.set': set,
    'collections.Counter': Call(dict),
    'collections.OrderedDict': OrderedDict,
    'collections.defaultdict': Call(lambda *_: {}),
    'collections.deque': Call(lambda *_: []),
    'copyreg._reconstructor': Call(_made),
    'numpy.dtype': NumberType,
    'torch._tensor._rebuild_from_type_v2': Call(_of_type),
    'torch._utils._rebuild_parameter': Call(_same),
    'torch._utils._rebuild_parameter_with_state': Call(_same),
    'torch._utils._rebuild_tensor': Call(strided),
    'torch._utils._rebuild_tensor_v2': Call(strided),
    'torch._utils._rebuild_tensor_v3': Call(_strided_of),
    'torch.Size': Call(torch.Size),
    'torch.UntypedStorage': torch.uint8,
    'torch.device': Call(torch.device),
    'torch.storage.UntypedStorage': torch.uint8,
    HISTORY: History,
    **{f'torch.{name}': kind for name, kind in STORAGE_DTYPES.items()},
    **{str(kind): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)},
    **{f'{part}._reconstruct': Call(lambda *_: Array()) for part in ARRAY_PARTS},
    **{f'{part}.scalar': Scalar for part in ARRAY_PARTS},
}
"""What a pickle's names mean here; all others are stand-ins."""


class Unpickler(pickle.Unpickler):
    """The interpreter.

    Args:
        data: A whole pickle.
        storage: Of a dtype, a key and a number of elements, and what else torch wrote of it.

    Raises:
        ValueError: The pickle is damaged, or claims more than it holds.
    """

    def __init__(self, data: bytes, storage: Callable[..., Tensor]) -> None:
        check_pickle(data)
        super().__init__(io.BytesIO(data))
        self.storage, self.room = storage, 2 * len(data) + SLACK
        self._stand_ins: dict[str, type[StandIn]] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f'{PYTHON_2.get(module, module)}.{name}'
        if not may_be_left_out(full):
            raise Unwanted(full)
        found = Call(self._encode) if full == '_codecs.encode' else KNOWN.get(full)
        if found is None:
            found = self._stand_ins[full] = self._stand_ins.get(full) or stand_in(full)
        return found

    def _encode(self, text: str, how: str = 'latin1') -> bytes:
        self.room -= len(text)
        if how != 'latin1' or self.room < 0:
            raise ValueError('its bytes are written as none are')
        return text.encode('latin1')

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] == 'module':  # a class and its source
            return pid[1]
        mark, dtype, key, _, numel, *view = pid
        if mark != 'storage' or not isinstance(dtype, torch.dtype):
            raise ValueError('it refers to something outside of the file')
        return Held(self.storage(dtype, str(key), numel, *view))
