"""Projectors of LLaVA, LLaVA-NeXT and MoE-LLaVA, saved alone, by transformers' names.

=============  =============================================  ==========================
from           names                                          becomes
=============  =============================================  ==========================
LLaVA(-NeXT)   ``mm_projector.0``, ``.2``                     ``linear_1``, ``linear_2``
MoE-LLaVA      ``mm_projector.image_spatial_proj.0``, ``.2``  the same
both, linear   ``mm_projector`` itself                        ``linear_1``
transformers   ``multi_modal_projector.linear_1``, ``_2``     the same
=============  =============================================  ==========================

Further layers go on in the same way. Whatever stands before (``model.``,
``base_model.model.model.``) does not matter.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor, nn

from mmseg_siglip.vlm.projectors import ProjectorType
from mmseg_siglip.weights.shards import NAMES
from mmseg_siglip.weights.state import load_strict, read_state_dict
from mmseg_siglip.weights.transformers_model import ADAPTERS

_THEIRS = re.compile(r'(?:^|\.)mm_projector\.(?:image_spatial_proj\.)?(.+)$')
_LAYER = re.compile(r'(?:(\d+)\.)?(weight|bias)')
_OURS = re.compile(r'(?:^|\.)multi_modal_projector\.(.+)$')
_VIDEO = re.compile(r'(?:^|\.)mm_projector\.video_')
FILES = ('mm_projector.bin', 'mm_projector.safetensors', 'non_lora_trainables.bin')
WHOLE = (*NAMES, ADAPTERS)
"""Files that only a whole checkpoint has, or one of adapters of a language model."""


def is_projector(name: str) -> bool:
    """Whether a tensor of that name belongs to a projector of images."""
    return bool((_THEIRS.search(name) and not _VIDEO.search(name)) or _OURS.search(name))


def load_projector(projector: nn.Module, path: str | Path) -> None:
    """Copy a projector that was saved alone, by the names of any of the three.

    Args:
        projector: Transformers' ``multi_modal_projector``.
        path: A file (``.bin``, ``.safetensors``, ``.pt``), or a folder with one of `FILES`.

    Raises:
        ValueError: There is none, other weights lie beside it, it has another number of layers or
            other sizes, or its weights are not finite.
    """
    own, state = projector.state_dict(), convert(read_projector(path), path)
    wanted, found = (len({name.split('.')[0] for name in names}) for names in (own, state))
    if wanted != found:
        raise ValueError(
            f'{path}: expected a projector of {_layers(wanted)}, found one of {_layers(found)}; '
            'see mm_projector_type'
        )
    load_strict(projector, state, path)


def type_of(path: str | Path) -> ProjectorType:
    """How many layers a projector saved alone has, between them LLaVA's activation.

    Raises:
        ValueError: See `read_projector`.
    """
    names = convert(read_projector(path), path)
    return ProjectorType(len({name.split('.')[0] for name in names}), 'gelu')


def _layers(count: int) -> str:
    return '1 layer' if count == 1 else f'{count} layers'


def read_projector(path: str | Path) -> dict[str, Tensor]:
    """A projector's tensors under the names that the checkpoint has for them.

    Raises:
        ValueError: There is none, or other weights that nobody would miss by name.
    """
    path = Path(path)
    tensors = read_state_dict(_file(path) if path.is_dir() else path)
    found = {name: value for name, value in tensors.items() if is_projector(name)}
    others = [name for name in tensors if name not in found and not _VIDEO.search(name)]
    if not found:
        raise ValueError(
            f'{path}: expected a projector (mm_projector.* or multi_modal_projector.*), found none'
        )
    if others:
        raise ValueError(
            f'{path}: expected a projector alone, found {len(others)} other weights (first '
            f'{others[0]}), which would be left out; a whole checkpoint is model_name_or_path'
        )
    return found


def convert(tensors: dict[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """By transformers' names.

    Raises:
        ValueError: It is not linear layers with activations between them, or more than one.
    """
    state, names = {}, {}
    for name in tensors:
        ours = _by_layer(name, path)
        if ours in state:
            raise ValueError(
                f'{path}: expected one projector, found {names[ours]} and {name} in the same place'
            )
        state[ours], names[ours] = tensors[name], name
    return state


def _by_layer(name: str, path: str | Path) -> str:
    """A tensor's name in transformers."""
    match = _OURS.search(name)
    if match:
        return match[1]
    inside = _THEIRS.search(name)[1]
    layer = _LAYER.fullmatch(inside)
    if layer is None or int(layer[1] or 0) % 2:
        raise ValueError(
            f'{path}: expected a projector of linear layers (mlp2x_gelu: 0 and 2), found {inside}'
        )
    return f'linear_{int(layer[1] or 0) // 2 + 1}.{layer[2]}'


def _file(folder: Path) -> Path:
    """The file of a folder that holds a projector alone."""
    for name in WHOLE:
        if (folder / name).is_file():
            raise ValueError(
                f'{folder}: expected a projector alone, found {name} of a whole checkpoint, whose '
                'language model and vision tower would be left out; it is model_name_or_path'
            )
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(
        f'{folder}: expected a projector (one of {", ".join(FILES)}), found none of them'
    )
