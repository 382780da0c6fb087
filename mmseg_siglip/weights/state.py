"""Weights of an encoder out of any file, and loading them without leaving one out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from mmseg_siglip.io import image_kinds
from mmseg_siglip.weights.checkpoint import load_checkpoint_file
from mmseg_siglip.weights.finite import refuse_not_finite

WRAPPERS = ('state_dict_ema', 'state_dict', 'model')
PREFIXES = ('module.', 'backbone.', 'model.')
COMPILED = '_orig_mod.'
SUFFIXES = ('.pt', '.pth', '.bin', '.safetensors', '.ckpt')


def refuse_missing_path(source: str) -> None:
    """Tell a path that does not exist from the name of a model on a hub.

    Raises:
        ValueError: `source` can only be a path, and nothing is there.
    """
    is_path = source.startswith(('/', '.', '~')) or source.endswith(SUFFIXES)
    if (is_path or source.count('/') > 1) and not Path(source).exists():
        raise ValueError(f'{source}: no such file or folder')


def refuse_images(folder: Path) -> None:
    """Tell a folder of photographs from one of weights.

    Raises:
        ValueError: It holds images and neither a configuration nor weights.
    """
    if not folder.is_dir():
        return
    files = [file for file in folder.iterdir() if not file.name.startswith('.')]
    images = [file for file in files if file.suffix.lower() in image_kinds.SUFFIXES]
    if images and not any(file.suffix in ('.json', *SUFFIXES) for file in files):
        raise ValueError(
            f'{folder}: expected weights, found a folder of images ({images[0].name}); these go to '
            'the call of what is built'
        )


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint by the names that it has.

    A dictionary entry ``state_dict_ema``, ``state_dict`` or ``model`` is opened, the first there
    is.

    Raises:
        ValueError: The file holds no tensors, some that are not finite, or what is none (see
            `checkpoint`).
    """
    state = load_checkpoint_file(path)
    for key in WRAPPERS:
        if isinstance(state.get(key), Mapping):
            state = state[key]
    state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not state:
        raise ValueError(f'{path}: expected a state dict of tensors, found none')
    return state


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """`read_tensors`, without what training frameworks add to names.

    Of an MMEngine segmentor only the ``backbone.`` part is kept; a prefix that all names share is
    dropped.

    Raises:
        ValueError: See `read_tensors`.
    """
    whole = read_tensors(path)
    state = without_prefixes(whole, path)
    part = {name: value for name, value in state.items() if name.startswith('backbone.')}
    state = without_prefixes(part or state, path)
    kept = set(map(id, state.values()))
    refuse_not_finite({name: value for name, value in whole.items() if id(value) in kept}, path)
    return state


def without_prefixes(state: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """Tensors without what wrappers put before all names, and torch.compile into any.

    Raises:
        ValueError: Two names would be one.
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        bare = name.replace(COMPILED, '')
        if bare in found:
            raise ValueError(
                f'{path}: expected one tensor of the name {bare}, found one with and one without '
                f'{COMPILED.rstrip(".")}, of a model before and after torch.compile'
            )
        found[bare] = value
    while shared := [p for p in PREFIXES if all(name.startswith(p) for name in found)]:
        found = {name.removeprefix(shared[0]): value for name, value in found.items()}
    return found


def load_strict(module: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Copy `state` into `module`, every name matched.

    Raises:
        ValueError: A weight is missing, unknown, or of another shape.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own]
    if missing or unknown:
        raise ValueError(
            f'{source}: expected the {len(own)} weights of a {type(module).__name__}, '
            f'{_count(missing)} missing and {_count(unknown)} unknown'
        )
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise ValueError(
                f'{source}: expected shape {tuple(own[name].shape)} for {name}, '
                f'found {tuple(value.shape)}'
            )
    module.load_state_dict(state)


def _count(names: list[str]) -> str:
    return f'{len(names)} (first {names[0]})' if names else '0'
