"""What weights were learnt with and no tensor tells: a range in metres, the blocks that are read.

Another value gives wrong numbers without an error. A module names its own in ``learnt_with``:
attributes that hold plain values. Checkpoints carry them, and whoever loads one compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

SHOWN = 3


def learnt_with(model: nn.Module) -> dict[str, Any]:
    """Plain values by names such as ``decode_head.max_depth``; of adapters their factors."""
    found = {}
    for name, module in model.named_modules():
        for attribute in getattr(module, 'learnt_with', ()):
            value = getattr(module, attribute, None)  # MMSeg's preprocessor may have no mean
            found['.'.join(filter(None, (name, attribute)))] = as_plain(value)
        if hasattr(module, 'lora_A'):  # an adapter of peft's
            found[f'{name}.scaling'] = dict(module.scaling)
    return found


def as_plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return [round(number, 4) for number in value.flatten().tolist()]
    return list(value) if isinstance(value, tuple) else value


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
        if name in told and told[name] != own
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
