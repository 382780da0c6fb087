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
from mmseg_siglip.models.backbones.clip import CLIPBackbone
from mmseg_siglip.models.backbones.siglip import SigLIPBackbone
from mmseg_siglip.models.lora import add_lora

MODES = ('none', 'qv', 'lora', 'all')
TOWERS = ('vision', 'text')
LORA_RANK = 8
FUSED = 'in_proj_weight'
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
        text = {id(parameter) for parameter in text_module_parameters(backbone)}
        for name, parameter in backbone.named_parameters():
            tower = 'text' if id(parameter) in text else 'vision'
            parameter.requires_grad_(tower in towers and not name.endswith(UNUSED))
    elif kind == 'qv':
        for parameter in query_value_matrices(backbone, towers):
            parameter.requires_grad_(True)


def text_module_parameters(backbone: VisionLanguageBackbone) -> list[nn.Parameter]:
    """The parameters that `encode_text` depends on."""
    names = backbone.text_parameters()
    module = backbone.model.text_model if isinstance(backbone, SigLIPBackbone) else backbone.model
    return [parameter for name, parameter in module.named_parameters() if name in names]


def text_trains(backbone: VisionLanguageBackbone) -> bool:
    """Whether word embeddings change in training."""
    return any(parameter.requires_grad for parameter in text_module_parameters(backbone))


def query_value_matrices(
    backbone: VisionLanguageBackbone, towers: Sequence[str]
) -> list[nn.Parameter]:
    """Query and value weights of all blocks, in two parameters where they were fused in one."""
    if isinstance(backbone, SigLIPBackbone):
        models = dict(vision=backbone.model.vision_model, text=backbone.model.text_model)
        return [
            matrix
            for tower in towers
            for layer in models[tower].encoder.layers
            for matrix in (layer.self_attn.q_proj.weight, layer.self_attn.v_proj.weight)
        ]
    if not isinstance(backbone, CLIPBackbone):
        raise ValueError(
            f'finetune: expected a SigLIPBackbone or a CLIPBackbone, '
            f'found {type(backbone).__name__}'
        )
    models = dict(vision=backbone.model.visual.transformer, text=backbone.model.transformer)
    matrices = []
    for tower in towers:
        for block in models[tower].resblocks:
            register_parametrization(block.attn, FUSED, Fused())
            parts = block.attn.parametrizations[FUSED]
            parts.requires_grad_(False)
            matrices += [parts.original0, parts.original2]
    backbone.register_load_state_dict_pre_hook(_accept_fused)
    return matrices


def _accept_fused(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_) -> None:
    """Split fused matrices of a checkpoint from before."""
    for name in [name for name in state_dict if name.endswith(f'.attn.{FUSED}')]:
        own = name.removeprefix(prefix).removesuffix(f'.{FUSED}')
        if not hasattr(module.get_submodule(own), 'parametrizations'):
            continue
        for i, part in enumerate(state_dict.pop(name).chunk(3)):
            split = f'{prefix}{own}.parametrizations.{FUSED}.original{i}'
            state_dict[split] = part.clone()
