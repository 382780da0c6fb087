"""Which weights of an encoder train.

CAT-Seg (https://arxiv.org/abs/2303.11797) trains the query and value matrices of both towers and
nothing else of them: no biases, keys, output projections or position embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.towers import NAMES as TOWERS
from mmseg_siglip.models.lora import add_lora

MODES = ('none', 'qv', 'lora', 'all')
LORA_RANK = 8
UNUSED = ('logit_scale', 'logit_bias', 'head.probe')
"""What dense features and word embeddings do not depend on."""


class Fused(nn.Module):
    """Three matrices seen as one, so that some of them can train and others not."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.cat([q, k, v])

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.clone() for part in weight.chunk(3))


def choose_trainable(
    backbone: VisionLanguageBackbone, mode: str | Mapping, *, towers: Sequence[str] = TOWERS
) -> None:
    """Set ``requires_grad`` of an encoder's weights, in place.

    Args:
        backbone: The encoder.
        mode: ``none``; ``qv``, query and value matrices; ``all``; ``lora``, adapters of rank 8; or
            a mapping with ``type='lora'`` and arguments of `add_lora`.
        towers: ``vision``, ``text`` or both.

    Raises:
        ValueError: A mode or a tower is unknown.
    """
    options = dict(mode) if isinstance(mode, Mapping) else dict(type=mode)
    kind = options.pop('type', None)
    if kind not in MODES or (options and kind != 'lora'):
        raise ValueError(
            f'finetune: expected one of {", ".join(MODES)}, or dict(type="lora", ...), '
            f'found {mode!r}'
        )
    if not towers or set(towers) - set(TOWERS):
        raise ValueError(f'towers: expected some of {TOWERS}, found {tuple(towers)}')
    backbone.requires_grad_(False)
    if kind == 'lora':
        add_lora(backbone, **{'rank': LORA_RANK, 'towers': tuple(towers), **options})
    elif kind == 'all':
        text = {id(parameter) for parameter in backbone.text_module_parameters()}
        for name, parameter in backbone.named_parameters():
            tower = 'text' if id(parameter) in text else 'vision'
            parameter.requires_grad_(tower in towers and not name.endswith(UNUSED))
    elif kind == 'qv':
        for parameter in query_value_matrices(backbone, towers):
            parameter.requires_grad_(True)


def text_trains(backbone: VisionLanguageBackbone) -> bool:
    """Whether word embeddings change in training."""
    return any(parameter.requires_grad for parameter in backbone.text_module_parameters())


def query_value_matrices(
    backbone: VisionLanguageBackbone, towers: Sequence[str]
) -> list[nn.Parameter]:
    """Query and value weights of all blocks, in two parameters where they were fused in one.

    Raises:
        ValueError: The encoder does not say where they are.
    """
    matrices, known = [], backbone.towers()
    for name in towers:
        tower = known.get(name)
        if tower is None or not (tower.query_value or tower.fused):
            raise ValueError(
                f"finetune 'qv': expected queries and values of a {name} tower, found a "
                f'{type(backbone).__name__}, which has none apart'
            )
        for layer in backbone.model.get_submodule(tower.layers):
            if tower.fused is None:
                matrices += [layer.get_submodule(path).weight for path in tower.query_value]
                continue
            path, parameter = tower.fused
            owner = layer.get_submodule(path)
            register_parametrization(owner, parameter, Fused())
            parts = owner.parametrizations[parameter]
            parts.requires_grad_(False)
            matrices += [parts.original0, parts.original2]
    backbone.register_load_state_dict_pre_hook(_accept_fused)
    return matrices


def _accept_fused(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_) -> None:
    """Split fused matrices of a checkpoint from before."""
    for owner, child in module.named_modules():
        for parameter in getattr(child, 'parametrizations', ()):
            name = f'{prefix}{owner}.{parameter}'
            for i, part in enumerate(state_dict.pop(name).chunk(3) if name in state_dict else ()):
                split = f'{prefix}{owner}.parametrizations.{parameter}.original{i}'
                state_dict[split] = part.clone()
