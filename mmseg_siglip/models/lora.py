"""Low-rank adapters on an encoder, for every system that trains.

LoRA, https://arxiv.org/abs/2106.09685, by the library peft. Beside a frozen matrix W (out, in)
train A (rank, in) and B (out, rank), B starting at zero: y = W x + alpha / rank * B A x.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Sequence

from torch import Tensor, nn

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.towers import NAMES as TOWERS
from mmseg_siglip.models.backbones.towers import Tower

DEFAULT = 'default'


def add_lora(
    backbone: VisionLanguageBackbone,
    *,
    rank: int,
    alpha: float | None = None,
    dropout: float = 0.0,
    targets: Sequence[str] | None = None,
    towers: Sequence[str] = ('vision',),
    adapters: Sequence[str] = (DEFAULT,),
) -> VisionLanguageBackbone:
    """Freeze a backbone and put trainable adapters into the layers of its towers, in place.

    At first the outputs are unchanged. Only layers of the encoders, and ``head``, are meant: a
    matrix of the same name in the pooling head stays as it is. Checkpoints from before still load.

    Args:
        backbone: The encoder.
        rank: Inner width of an adapter.
        alpha: Numerator of the factor alpha / rank; twice the rank if not given.
        dropout: Part of the adapters' inputs dropped, in training mode.
        targets: Matrices of a layer: ``q_proj``, ``k_proj``, ``v_proj``, ``out_proj``, ``fc1``,
            ``fc2`` of SigLIP, and ``head`` of its text tower alone; ``out_proj`` (vision only),
            ``c_fc``, ``c_proj`` of CLIP. By default query and value of SigLIP, and all that can be
            adapted of CLIP.
        towers: ``vision``, ``text`` or both.
        adapters: Names of adapters that lie side by side, of which one works at a time, the first
            until `select_adapter` says otherwise.

    Returns:
        `backbone`.

    Raises:
        ValueError: A value is out of range, names nothing adaptable, or there are adapters already.
        ImportError: peft is not installed.
    """
    if not towers or set(towers) - set(TOWERS):
        raise ValueError(f'lora.towers: expected some of {TOWERS}, found {tuple(towers)}')
    if lora_layers(backbone):
        raise ValueError('lora: the backbone has adapters already')
    if 'text' in towers:
        backbone.require_text()
    known = backbone.towers()
    missing = [name for name in towers if name not in known or not known[name].adaptable]
    if missing:
        raise ValueError(
            f'lora: expected an encoder with layers to adapt in its {missing[0]} tower, found a '
            f'{type(backbone).__name__}, which has none'
        )
    behind = {target for name in towers for target in known[name].behind}
    patterns = [_pattern(known[name], targets, name, behind) for name in towers]
    inject(backbone, '|'.join(patterns), rank=rank, alpha=alpha, dropout=dropout, adapters=adapters)
    return backbone


def inject(
    owner: nn.Module,
    pattern: str,
    *,
    rank: int,
    alpha: float | None = None,
    dropout: float = 0.0,
    adapters: Sequence[str] = (DEFAULT,),
) -> None:
    """Freeze `owner` and adapt the layers of ``owner.model`` whose whole name fits `pattern`.

    The rest is as in `add_lora`.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("lora needs peft: pip install 'mmseg_siglip[train]'") from error
    if rank < 1:
        raise ValueError(f'lora.rank: expected 1 or more, found {rank}')
    if not 0 <= dropout < 1:
        raise ValueError(f'lora.dropout: expected a part in [0, 1), found {dropout}')
    if not adapters or len(set(adapters)) < len(adapters):
        raise ValueError(f'lora.adapters: expected different names, found {tuple(adapters)}')
    owner.requires_grad_(False)
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules=pattern,
    )
    for name in adapters:
        with warnings.catch_warnings():  # that there are several adapters is what is meant
            warnings.filterwarnings('ignore', message='Already found a `peft_config`')
            inject_adapter_in_model(config, owner.model, adapter_name=name)
    select_adapter(owner, adapters[0])
    owner.register_load_state_dict_pre_hook(_accept_plain_names)


def select_adapter(module: nn.Module, name: str) -> None:
    """Let the adapter of that name work, of several; all of them go on training."""
    for layer in lora_layers(module).values():
        if name not in layer.lora_A:
            raise ValueError(f'lora: expected one of {sorted(layer.lora_A)}, found {name!r}')
        layer.set_adapter(name)
        for part in (layer.lora_A, layer.lora_B):
            part.requires_grad_(True)  # peft freezes those that rest


def lora_layers(module: nn.Module) -> dict[str, nn.Module]:
    """The adapted layers of a module, by name."""
    return {name: child for name, child in module.named_modules() if hasattr(child, 'lora_A')}


def merge_lora(backbone: VisionLanguageBackbone) -> VisionLanguageBackbone:
    """Add each adapter to its matrix and drop it, in place: same outputs, plain names, no cost."""
    for name, layer in lora_layers(backbone).items():
        layer.merge(safe_merge=True)
        parent, _, child = name.rpartition('.')
        setattr(backbone.get_submodule(parent), child, layer.get_base_layer())
    return backbone


def _pattern(
    tower: Tower, targets: Sequence[str] | None, name: str, behind: Collection[str]
) -> str:
    """Which modules of a tower are meant; `behind` are the names that some tower has behind it."""
    wanted = tower.default if targets is None else targets
    unknown = sorted(set(wanted) - set(tower.adaptable) - set(behind))
    inside = [re.escape(tower.adaptable[target]) for target in wanted if target in tower.adaptable]
    outside = [re.escape(tower.behind[target]) for target in wanted if target in tower.behind]
    if unknown or not inside + outside:
        known = ', '.join([*tower.adaptable, *tower.behind])
        raise ValueError(
            f'lora.targets: expected some of {known} for the {name} tower, '
            f'found {", ".join(unknown or wanted) or "none"}'
        )
    layers = [rf'{re.escape(tower.layers)}\.\d+\.({"|".join(inside)})'] if inside else []
    return '|'.join(layers + outside)


def _accept_plain_names(
    backbone: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_
) -> None:
    """Rename ``X.weight`` to ``X.base_layer.weight`` where X is adapted."""
    for name in lora_layers(backbone):
        for part in ('weight', 'bias'):
            plain = f'{prefix}{name}.{part}'
            if plain in state_dict:
                state_dict[f'{prefix}{name}.base_layer.{part}'] = state_dict.pop(plain)
