"""Learning rates that are not what a config seems to say, told before a training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper, OptimWrapperDict
from mmengine.optim.scheduler import ConstantParamScheduler, LinearParamScheduler
from mmengine.runner import BaseLoop, IterBasedTrainLoop
from torch import Tensor, nn

RULES = (
    'custom_keys',
    'bias_lr_mult',
    'bias_decay_mult',
    'norm_decay_mult',
    'dwconv_decay_mult',
    'flat_decay_mult',
    'dcn_offset_lr_mult',
    'bypass_duplicate',
)
"""What MMEngine's constructor reads of ``paramwise_cfg``."""
FOR_EVER = 10**9  # what MMEngine has where a schedule is given no end
MOVING = ('last_step', 'best', 'num_bad_epochs', 'cooldown_counter')
"""What schedulers change as they go on."""

Schedulers = Sequence[Any] | Mapping[str, Sequence[Any]] | None


def rules_of_nothing(config: Mapping, model: nn.Module) -> list[str]:
    """The keys of ``paramwise_cfg.custom_keys`` that no parameter's name holds.

    Args:
        config: ``optim_wrapper``; of another constructor than MMEngine's own nothing is said.
        model: What trains.

    Raises:
        ValueError: There is a rule that the constructor does not know.
    """
    rules = config.get('paramwise_cfg') or {}
    if config.get('constructor', 'x') not in ('x', DefaultOptimWrapperConstructor.__name__):
        return []
    unknown = [name for name in rules if name not in RULES]
    if unknown:
        raise ValueError(
            f'optim_wrapper.paramwise_cfg: expected some of {", ".join(RULES)}, found {unknown[0]}'
        )
    names = [name for name, _ in model.named_parameters()]
    return [key for key in rules.get('custom_keys', {}) if not any(key in name for name in names)]


def all_of(schedulers: Schedulers) -> Iterator[Any]:
    if isinstance(schedulers, Mapping):
        for some in schedulers.values():
            yield from some
    else:
        yield from schedulers or ()


def ends_apart(schedulers: Schedulers, loop: BaseLoop) -> list[str]:
    """Where schedules do not end with the training, a sentence each.

    A warm-up alone may end before, and a schedule without an end goes on for ever.

    Raises:
        ValueError: A schedule counts epochs in a training that has none, and would never act.
    """
    sentences = []
    for scheduler in all_of(schedulers):
        unit, kind = 'epoch' if scheduler.by_epoch else 'iter', type(scheduler).__name__
        if scheduler.by_epoch and isinstance(loop, IterBasedTrainLoop):
            raise ValueError(
                f'param_scheduler: expected by_epoch=False of {kind} in a training of iterations, '
                'found True, by which it would never act'
            )
        last = getattr(loop, f'max_{unit}s')
        warms_up = isinstance(scheduler, (ConstantParamScheduler, LinearParamScheduler))
        if (
            scheduler.end == last
            or scheduler.end >= FOR_EVER
            or (warms_up and scheduler.end < last)
        ):
            continue
        what = 'from there on the rates stand still'
        if scheduler.end > last:
            what = 'the rates do not come to their end'
        sentences.append(
            f'param_scheduler: {kind} ends at {unit} {scheduler.end}, the training at {last} '
            f'(train_cfg.max_{unit}s); {what}.'
        )
    return sentences


def kept_rates(
    checkpoint: Mapping[str, Any],
    optim_wrapper: OptimWrapper | OptimWrapperDict,
    schedulers: Schedulers,
) -> str:
    """Which numbers of a checkpoint a training goes on with instead of its config's.

    Args:
        checkpoint: With ``optimizer`` and ``param_schedulers``.
        optim_wrapper, schedulers: As the config has them.

    Returns:
        A list for a sentence; empty if there are none.
    """
    found: dict[str, tuple[float, float]] = {}
    own, saved = optim_wrapper.state_dict(), checkpoint.get('optimizer')
    for ours, theirs in pairs(own.get('param_groups'), _get(saved, 'param_groups')):
        for name in ours.keys() - {'params'}:
            if f'initial_{name}' not in ours:
                _note(found, name.removeprefix('initial_'), ours[name], theirs.get(name))
    if not isinstance(schedulers, Mapping):
        for scheduler, theirs in pairs(schedulers, checkpoint.get('param_schedulers')):
            for name, value in scheduler.state_dict().items():
                if not name.startswith('_') and name not in MOVING:
                    key = f'{type(scheduler).__name__}.{name}'
                    _note(found, key, value, theirs.get(name))
    return ', '.join(
        f'{name} {theirs:g} (config: {ours:g})' for name, (ours, theirs) in found.items()
    )


def pairs(ours: Any, theirs: Any) -> Iterator[tuple[Any, Mapping]]:
    if isinstance(ours, Sequence) and isinstance(theirs, Sequence):
        yield from ((a, b) for a, b in zip(ours, theirs, strict=False) if isinstance(b, Mapping))


def _get(values: Any, name: str) -> Any:
    return values.get(name) if isinstance(values, Mapping) else None


def _note(found: dict[str, tuple[float, float]], name: str, ours: Any, theirs: Any) -> None:
    numbers = [float(x) for x in (ours, theirs) if isinstance(x, (int, float)) or _is_scalar(x)]
    if len(numbers) == 2 and not math.isclose(*numbers, rel_tol=1e-9):
        found.setdefault(name, (numbers[0], numbers[1]))


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1
