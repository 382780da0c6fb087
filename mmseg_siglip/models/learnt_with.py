"""What weights were learnt with and no tensor tells: a range in metres, the blocks that are read.

Another value gives wrong numbers without an error. A module names its own in ``learnt_with``:
attributes that hold plain values, or mappings of them. Checkpoints carry them, and whoever loads
one compares. Not among them is what may change between training and use: words, sizes, precision,
windows, how many classes are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

SHOWN = 3
SCALING = 'lora.scaling'


def learnt_with(model: nn.Module) -> dict[str, Any]:
    """Plain values by names such as ``decode_head.max_depth``; the factors of adapters together."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        for attribute in getattr(module, 'learnt_with', ()):
            value = getattr(module, attribute, None)  # MMSeg's preprocessor may have no mean
            found |= flat(dotted(name, attribute), value)
        if isinstance(module, nn.GroupNorm):
            found[f'{name}.num_groups'] = module.num_groups
        scaling = getattr(module, 'scaling', None)
        if hasattr(module, 'lora_A') and isinstance(scaling, Mapping):  # peft's
            found[SCALING] = sorted({*found.get(SCALING, ()), *scaling.values()})
    return found


def flat(name: str, value: Any) -> dict[str, Any]:
    """A value by its name, those of a mapping by names with dots; all plain."""
    if not isinstance(value, Mapping):
        return {name: as_plain(value)}
    parts = [flat(dotted(name, key), item) for key, item in value.items()]
    return {key: item for part in parts for key, item in part.items()}


def dotted(*names: object) -> str:
    return '.'.join(str(name) for name in names if name != '')


def as_plain(value: Any) -> Any:
    """Lists for arrays and tuples, and for tensors, whose numbers get six digits."""
    if isinstance(value, Tensor):
        return [float(f'{number:.6g}') for number in value.flatten().tolist()]
    if isinstance(value, (np.ndarray, np.generic)):
        return as_plain(value.tolist())
    return [as_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def learnt_otherwise(model: nn.Module, checkpoint: Mapping[str, Any]) -> str:
    """In what `model` differs from the one that a checkpoint was trained in.

    Args:
        model: What the weights are for.
        checkpoint: With ``meta``, if it is MMEngine's.

    Returns:
        Such as ``decode_head.max_depth 3.0, found 80.0``; empty if they agree, or as far as the
        checkpoint does not tell.
    """
    meta = checkpoint.get('meta')
    told = meta.get('learnt_with') if isinstance(meta, Mapping) else None
    if not isinstance(told, Mapping):
        return ''
    differing = [
        f'{name} {told[name]!r:.80}, found {own!r:.80}'
        for name, own in learnt_with(model).items()
        if name in told and as_plain(told[name]) != own
    ]
    more = f' and {len(differing) - SHOWN} more' if len(differing) > SHOWN else ''
    return '; '.join(differing[:SHOWN]) + more


def require_learnt_with(model: nn.Module, checkpoint: Mapping[str, Any], source: object) -> None:
    """Refuse weights that mean something else in `model` than where they were trained.

    Args:
        model: See `learnt_otherwise`.
        checkpoint: Likewise.
        source: What messages call it.

    Raises:
        ValueError: They do.
    """
    if differing := learnt_otherwise(model, checkpoint):
        raise ValueError(
            f'{source}: expected the settings that its weights were trained with, {differing} in '
            'the config'
        )
