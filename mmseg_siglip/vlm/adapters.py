"""Projectors of LLaVA, LLaVA-NeXT and MoE-LLaVA checkpoints, by transformers' names.

=============  ===========================================  ==========================
from           names                                        becomes
=============  ===========================================  ==========================
LLaVA(-NeXT)   ``mm_projector.0``, ``.2``                   ``linear_1``, ``linear_2``
MoE-LLaVA      ``mm_projector.image_spatial_proj.0``, ``.2``  the same
transformers   ``multi_modal_projector.linear_1``, ``_2``   the same
=============  ===========================================  ==========================

Whatever stands before (``model.``, ``base_model.model.model.``) does not matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from mmseg_siglip.weights.state import load_strict, read_state_dict

_THEIRS = re.compile(r'(?:^|\.)mm_projector\.(?:image_spatial_proj\.)?(.+)$')
_OURS = re.compile(r'(?:^|\.)multi_modal_projector\.(.+)$')
_VIDEO = re.compile(r'(?:^|\.)mm_projector\.video_')
LAYERS = {'0': 'linear_1', '2': 'linear_2'}
FILES = ('mm_projector.bin', 'mm_projector.safetensors', 'non_lora_trainables.bin')
WHOLE = ('model.safetensors', 'pytorch_model.bin')
INDICES = ('model.safetensors.index.json', 'pytorch_model.bin.index.json')


def is_projector(name: str) -> bool:
    """Whether a tensor of that name belongs to a projector of images."""
    return bool((_THEIRS.search(name) and not _VIDEO.search(name)) or _OURS.search(name))


def load_projector(projector: nn.Module, path: str | Path) -> None:
    """Copy a projector out of a checkpoint of any of the three kinds.

    Args:
        projector: Transformers' ``multi_modal_projector``.
        path: A file (``.bin``, ``.safetensors``, ``.pt``), or a checkpoint's folder, of which only
            the parts that hold the projector are read.

    Raises:
        ValueError: There is none, it has another number of layers, or other sizes.
    """
    load_strict(projector, convert(read_projector(path), path), path)


def read_projector(path: str | Path) -> dict[str, Tensor]:
    """A projector's tensors under the names that the checkpoint has for them."""
    path = Path(path)
    files = _files(path) if path.is_dir() else [path]
    found: dict[str, Tensor] = {}
    for file in files:
        found |= _read(file)
    if not found:
        raise ValueError(
            f'{path}: expected a projector (mm_projector.* or multi_modal_projector.*), found none'
        )
    return found


def convert(tensors: dict[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """By transformers' names.

    Raises:
        ValueError: It is not two linear layers.
    """
    state = {}
    for name, value in tensors.items():
        match = _OURS.search(name)
        if match:
            state[match[1]] = value
            continue
        layer, _, kind = _THEIRS.search(name)[1].rpartition('.')
        if layer not in LAYERS:
            layers = sorted({_THEIRS.search(n)[1].rpartition('.')[0] for n in tensors})
            raise ValueError(
                f'{path}: expected a projector of two layers (mlp2x_gelu: 0 and 2), found '
                f'{", ".join(layers) if any(layers) else "a single linear layer"}'
            )
        state[f'{LAYERS[layer]}.{kind}'] = value
    return state


def _files(folder: Path) -> Iterable[Path]:
    """The files of a checkpoint that hold the projector."""
    for name in FILES:
        if (folder / name).is_file():
            return [folder / name]
    for name in INDICES:
        if (folder / name).is_file():
            places = json.loads((folder / name).read_text(encoding='utf-8'))['weight_map']
            return sorted({_shard(folder, places[key]) for key in places if is_projector(key)})
    return [folder / name for name in WHOLE if (folder / name).is_file()][:1]


def _shard(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise ValueError(f'{folder}: the index names a file outside of the folder, {name}')
    return folder / name


def _read(file: Path) -> dict[str, Tensor]:
    if file.suffix == '.safetensors' and file.is_file():
        with safe_open(file, framework='pt') as tensors:
            return {key: tensors.get_tensor(key) for key in tensors.keys() if is_projector(key)}  # noqa: SIM118
    return {name: value for name, value in read_state_dict(file).items() if is_projector(name)}
