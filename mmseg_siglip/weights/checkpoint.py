"""Checkpoint files, read without running anything in them."""

from __future__ import annotations

import logging
import math
import os
import pickle
import re
import zipfile
from argparse import Namespace
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import Parameter
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from mmseg_siglip.weights.claims import check_archive, check_tensors, globals_of
from mmseg_siglip.weights.npz import is_npz, read_npz
from mmseg_siglip.weights.stand_ins import Unwanted, may_be_left_out
from mmseg_siglip.weights.torchscript import is_torchscript, read_torchscript
from mmseg_siglip.weights.without_objects import NoTorchFile, read_without_objects

CHECKPOINT_NAMES = ('epoch_{}.pth', 'iter_{}.pth')
"""What MMEngine calls the checkpoints of a run."""

_UNSUPPORTED = re.compile(r'(?:GLOBAL|Unsupported class|Unsupported type:?) ([\w.]+)')
ROOMY = {'builtins.bytearray'}
"""What torch's weights-only reader would call with any number, to make room for so many bytes."""
HARMLESS = {'collections.OrderedDict', '_codecs.encode', 'argparse.Namespace'}
OLD_PICKLES = 5
"""As many stand one after the other in a file of the format before torch 1.6, its arrays last."""
STATES = ('state_dict', 'state_dict_ema', 'ema_state_dict', 'model')
"""Where checkpoints that hold other things as well keep their weights."""
RESUMED = ('optimizer', 'param_schedulers')
LEFT_OUT = 'left_out'
"""Where a checkpoint that was read without some of its objects has `LeftOut`."""
NAMED = 10
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.Size, torch.device)


class LeftOut(dict):
    """Places of a checkpoint, and the classes of what was left out there; no file can hold one."""

    def said(self) -> str:
        """The first `NAMED`, and how many more."""
        more = len(self) - NAMED
        places = [f'{place} ({name})' for place, name in list(self.items())[:NAMED]]
        return ', '.join(places) + (f' and {more} more' if more > 0 else '')


def left_out_of(checkpoint: Mapping[str, Any]) -> LeftOut:
    """What a checkpoint was read without."""
    found = checkpoint.get(LEFT_OUT)
    return found if isinstance(found, LeftOut) else LeftOut()


def load_checkpoint_file(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of any format as data; the format is found from the contents.

    Formats: safetensors, ``torch.save`` (weights only), TorchScript archives such as OpenAI's CLIP,
    NumPy's ``.npz``.
    Tensors arrive on the CPU. Objects beside the weights, such as MMEngine's own Runner pickles,
    are left out (see `read_without_objects`), which is said. Configs stored in an MMEngine
    checkpoint are left out, since MMEngine would execute them (see :func:`drop_configs`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, is not a checkpoint, or needs code to be read; the message
            names what was refused.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint not found: there is no file {path}.')
    if path.stat().st_size == 0:
        raise ValueError(f'{path} is empty, expected a checkpoint.')
    if _is_safetensors(path):
        return _load_safetensors(path)
    if is_torchscript(path):
        return read_torchscript(path)
    if is_npz(path):
        return read_npz(path)
    checkpoint = _load_weights_only(path)
    if not isinstance(checkpoint, dict):
        kind = type(checkpoint).__name__
        raise ValueError(f'{path} holds a {kind}, expected a dict of tensors.')
    drop_configs(checkpoint)
    if left_out := left_out_of(checkpoint):
        print_log(
            f'{path} is read without {left_out.said()}: no tensors or plain values.',
            logger='current',
            level=logging.WARNING,
        )
    return checkpoint


def _is_safetensors(path: Path) -> bool:
    """Eight bytes of little-endian header length, then a JSON object."""
    with open(path, 'rb') as file:
        start = file.read(9)
    return start[8:] == b'{' and start[:2] != b'PK'


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
        check_tensors(tensors, path.stat().st_size)
    except Exception as error:  # beside their own error, whatever a strange data type leads to
        raise ValueError(f'{path} is a damaged safetensors file: {_reason(error)}.') from error
    return tensors


def _load_weights_only(path: Path, *, mmap: bool = False) -> Any:
    """What ``torch.load`` allows, and beside it the arguments of a command, which many keep; where
    there are other objects, the checkpoint without them, and under `LEFT_OUT` what they are."""
    try:
        with safe_globals([Namespace]):
            check_weights_file(path)
            return _load_plain(path, mmap=mmap)
    except ForeignObjects as refusal:
        return _load_without(path, refusal, tensors=not mmap)


def _load_without(path: Path, refusal: ForeignObjects, *, tensors: bool) -> dict[str, Any]:
    """A checkpoint without what is neither tensor nor plain value, unless that is a function of
    Python's own, one of its weights, or there is no telling which these are."""
    if not all(map(may_be_left_out, refusal.names)):
        raise refusal
    try:
        checkpoint, left_out = read_without_objects(
            path, tensors=tensors, first=(*STATES, *RESUMED)
        )
        if tensors:
            check_tensors(checkpoint, path.stat().st_size)
    except (Unwanted, NoTorchFile) as error:
        raise refusal from error
    except Exception as error:
        raise ValueError(f'{path} is damaged or not a checkpoint: {_reason(error)}.') from error
    states = [name for name in STATES if _holds_weights(checkpoint, name)]
    if not states or any(place.split('.')[0] in states for place in left_out):
        raise _refused(path, left_out.values() or refusal.names)
    if left_out:
        checkpoint[LEFT_OUT] = LeftOut(left_out)
    return checkpoint


def _holds_weights(checkpoint: Any, name: str) -> bool:
    return isinstance(checkpoint, dict) and isinstance(checkpoint.get(name), dict)


def _load_plain(path: Path, *, mmap: bool) -> Any:
    try:
        checkpoint = torch.load(path, map_location='cpu', weights_only=True, mmap=mmap)
        check_tensors(checkpoint, path.stat().st_size)
    except pickle.UnpicklingError as error:
        names = _unsafe_globals(path) or _strange(path) or _UNSUPPORTED.findall(str(error))
        if not names:
            raise ValueError(f'{path} is not a checkpoint: it cannot be unpickled.') from error
        raise _refused(path, names) from error
    except Exception as error:
        raise ValueError(f'{path} is damaged or not a checkpoint: {_reason(error)}.') from error
    return checkpoint


def check_weights_file(path: Path) -> None:
    """Refuse, unread, a file of ``torch.save`` that would run code or claims more than it holds.

    Raises:
        ValueError: It would, or does, or is damaged, or in another library's layout.
    """
    arrays: list[str] = []
    try:
        if zipfile.is_zipfile(path):
            check_archive(path)
            with zipfile.ZipFile(path) as archive:
                arrays = [name for name in archive.namelist() if name.endswith('.npy')]
        names = [] if arrays else _unsafe_globals(path) or ROOMY & {*_names(path)}
    except Exception as error:
        raise ValueError(f'{path} is damaged or not a checkpoint: {_reason(error)}.') from error
    if arrays:
        raise ValueError(
            f'{path} holds arrays of NumPy (first {arrays[0]}), expected a file of torch.save.'
        )
    if names:
        raise _refused(path, names)


def _unsafe_globals(path: Path) -> list[str]:
    try:
        return get_unsafe_globals_in_checkpoint(path)
    except Exception:  # damaged, or the format before torch 1.6, which the function does not read
        return []


def _names(path: Path) -> list[str]:
    """What the pickles of a file refer to."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            parts = [archive.read(name) for name in archive.namelist() if name.endswith('.pkl')]
        return [name for part in parts for name in globals_of(part)]
    with open(path, 'rb') as file:
        return [name for _ in range(OLD_PICKLES) for name in globals_of(file)]


def _strange(path: Path) -> list[str]:
    """Of `_names` those that no checkpoint needs, as far as their names tell."""
    return [name for name in _names(path) if name not in HARMLESS and not name.startswith('torch.')]


class ForeignObjects(ValueError):
    """A file holds what is neither tensor nor plain value.

    Attributes:
        names: Of the classes and functions.
    """

    names: frozenset[str] = frozenset()


def _refused(path: Path, names: Iterable[str]) -> ForeignObjects:
    refusal = ForeignObjects(
        f'{path} is refused: to read it would run code from the file, namely '
        f'{", ".join(sorted(set(names)))}; expected tensors and plain values only.'
    )
    refusal.names = frozenset(names)
    return refusal


def _reason(error: Exception) -> str:
    """The first sentence of an error, without its full stop."""
    return str(error).split('\n')[0].split('. ')[0].rstrip('.') or type(error).__name__


def drop_configs(checkpoint: dict[str, Any]) -> None:
    """Remove, in place, the configs that MMEngine would execute.

    ``Runner.resume`` runs ``meta.config``; an Inferencer without a config runs ``meta.cfg`` or
    ``message_hub.runtime_info.cfg``.
    """
    meta = checkpoint.get('meta')
    if isinstance(meta, dict):
        meta.pop('config', None)
        meta.pop('cfg', None)
    hub = checkpoint.get('message_hub')
    if isinstance(hub, dict):
        for part in ('runtime_info', 'resumed_keys'):
            if isinstance(hub.get(part), dict):
                hub[part].pop('cfg', None)


def is_mmengine_checkpoint(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint was saved by MMEngine's Runner: ``state_dict`` beside ``meta``."""
    return isinstance(checkpoint.get('state_dict'), dict) and isinstance(
        checkpoint.get('meta'), dict
    )


def is_mmengine_file(path: str | Path) -> bool:
    """`is_mmengine_checkpoint` of a file, its tensors left unread (but for the format before torch
    1.6).

    Raises:
        ValueError: See `load_checkpoint_file`.
    """
    path = Path(path)
    if _is_safetensors(path) or is_torchscript(path) or is_npz(path):
        return False
    checkpoint = _load_weights_only(path, mmap=zipfile.is_zipfile(path))
    return isinstance(checkpoint, dict) and is_mmengine_checkpoint(checkpoint)


def to_plain(value: Any, *, where: str = 'checkpoint') -> Any:
    """A copy that holds tensors and plain Python values only.

    Arrays become tensors, their scalars Python numbers, other mappings and sequences dicts and
    lists, paths strings. What has no plain form is left out, with a warning that says where.
    """
    if isinstance(value, Tensor):
        return value if type(value) in (Tensor, Parameter) else value.as_subclass(Tensor)
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        numeric = value.dtype.kind in 'biufc'
        return torch.from_numpy(np.array(value)) if numeric else to_plain(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        pairs = (
            (to_plain(key, where=where), to_plain(item, where=f'{where}.{key}'))
            for key, item in value.items()
        )
        kept = [(key, item) for key, item in pairs if key is not _NOTHING and item is not _NOTHING]
        if not isinstance(value, OrderedDict):
            return dict(kept)
        plain = OrderedDict(kept)
        if hasattr(value, '_metadata'):
            plain._metadata = to_plain(value._metadata)  # torch keeps module versions here
        return plain
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        items = (to_plain(item, where=f'{where}[{i}]') for i, item in enumerate(value))
        kind = tuple if isinstance(value, tuple) else set if isinstance(value, set) else list
        return kind(item for item in items if item is not _NOTHING)
    print_log(
        f'{where} is not saved: a {type(value).__name__} has no plain form.',
        logger='current',
        level=logging.WARNING,
    )
    return _NOTHING


_NOTHING = object()


def is_whole(path: str | Path) -> bool:
    """Whether a file written by ``torch.save`` is complete: its directory and all checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # zipfile has no one error for the many ways in which bytes can be wrong
        return False


def newest_checkpoint(
    folder: str | Path, names: Sequence[str] = CHECKPOINT_NAMES
) -> tuple[Path | None, list[Path]]:
    """The newest whole checkpoint of a run, and the newer ones passed over as damaged.

    Looked at are the files directly in the folder; nothing in it that points elsewhere is believed,
    since it may be a copy. Of one run, the highest step is the newest, whatever the files' times;
    of several runs that wrote into the folder, the one that saved last.

    Args:
        folder: It may be missing.
        names: Patterns of the files' names, with one ``{}`` for the step.
    """
    steps = {
        file: step
        for file in Path(folder).glob('*')
        if (step := step_of(file.name, names)) is not None and file.is_file()
    }
    stamps = {file: _stamp(file) for file in steps}
    last: dict[str, float] = {}
    for run, saved in filter(None, stamps.values()):
        last[run] = max(saved, last.get(run, saved))

    def age(file: Path) -> tuple[float, int]:
        # One that cannot be read is of no run: it is named as damaged where its step is newer.
        return last[stamps[file][0]] if stamps[file] else max(last.values(), default=0), steps[file]

    damaged: list[Path] = []
    for file in sorted(steps, key=age, reverse=True):
        if is_whole(file):
            return file, damaged
        damaged.append(file)
    return None, damaged


def step_of(name: str, names: Sequence[str] = CHECKPOINT_NAMES) -> int | None:
    """The step in a checkpoint's name, by the patterns of `newest_checkpoint`."""
    for pattern in names:
        parts = map(re.escape, re.split(r'\{[^}]*\}', pattern))
        if match := re.fullmatch(r'(\d{1,18})'.join(parts), name, re.ASCII):
            return int(match[1])
    return None


def _stamp(file: Path) -> tuple[str, float] | None:
    """Which run a checkpoint is of, and when it was saved, in seconds; None if it is unreadable.

    Those that do not say are of one run, and older than those that do.
    """
    try:
        checkpoint = _load_weights_only(file, mmap=zipfile.is_zipfile(file))
        meta = checkpoint.get('meta', {})
        run, saved = meta.get('run'), meta.get('saved')
    except (ValueError, AttributeError, OSError):
        return None
    if isinstance(run, str) and isinstance(saved, float) and math.isfinite(saved):
        return run, saved
    return '', 0.0
