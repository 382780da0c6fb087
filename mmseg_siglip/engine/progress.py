"""What a checkpoint says of a training, believed as far as it makes sense.

Its values steer loops and name files, and it may come from anyone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import EMAHook, Hook
from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, IterBasedTrainLoop
from torch import Tensor

from mmseg_siglip.weights.checkpoint import left_out_of, step_of

SEEDS = 2**32


def require_dict(checkpoint: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """A part without which no training goes on as it was.

    Raises:
        ValueError: It is not there.
    """
    if not isinstance(checkpoint.get(part), dict):
        raise ValueError(
            f'expected {part} in it, without which no training goes on as it was; load_from takes '
            'the weights alone'
        )
    return checkpoint[part]


def check_progress(checkpoint: Mapping[str, Any], loop: BaseLoop) -> None:
    """Refuse a checkpoint that does not fit a training.

    Args:
        checkpoint: With its histories unpacked.
        loop: The training, whose end the checkpoint's iteration or epoch must not be beyond.

    Raises:
        ValueError: A part is missing or of another form, or the numbers fit no such training.
    """
    meta, hub = require_dict(checkpoint, 'meta'), require_dict(checkpoint, 'message_hub')
    bound = 'iter' if isinstance(loop, IterBasedTrainLoop) else 'epoch'
    for name in ('epoch', 'iter'):
        value, most = meta.get(name), getattr(loop, f'max_{bound}s')
        if type(value) is not int or value < 0:
            raise ValueError(f'expected meta.{name} to be a number from 0, found {value!r}')
        if name == bound and value > most:
            raise ValueError(
                f'expected meta.{name} within train_cfg.max_{name}s, which is {most}, found {value}'
            )
    seed = meta.get('seed')
    if seed is not None and (type(seed) is not int or not 0 <= seed < SEEDS):
        raise ValueError(f'expected meta.seed to be a number from 0 below 2**32, found {seed!r}')
    for part in ('log_scalars', 'runtime_info', 'resumed_keys'):
        if not isinstance(hub.get(part), dict):
            raise ValueError(f'expected message_hub.{part} to be a dict')


def check_whole(checkpoint: Mapping[str, Any], parts: Sequence[str]) -> None:
    """Refuse a checkpoint that was read without some object in one of its parts.

    Raises:
        ValueError: It was.
    """
    for place, name in left_out_of(checkpoint).items():
        if re.split(r'[.\[]', place)[0] in parts:
            raise ValueError(
                f'expected plain values, found {place} ({name}); load_from takes the weights alone'
            )


def check_averaged(checkpoint: Mapping[str, Any], hooks: Sequence[Hook]) -> None:
    """Refuse averaged weights without what averages them.

    With an `EMAHook`, a checkpoint has the averages as its weights, and what trains beside them.

    Raises:
        ValueError: There is no such hook.
    """
    if 'ema_state_dict' in checkpoint and not any(isinstance(hook, EMAHook) for hook in hooks):
        raise ValueError(
            'expected an EMAHook in custom_hooks, as the run had that saved it, found none: the '
            'averages would be trained; load_from takes them as weights alone'
        )


def parts_of(checkpoint: Mapping[str, Any]) -> str:
    """What of a checkpoint a training goes on with, and what had to be left out of it."""
    histories = len(checkpoint['message_hub']['log_scalars'])
    names = dict(state_dict='weights', optimizer='optimizer', param_schedulers='schedules')
    found = [said for part, said in names.items() if part in checkpoint]
    left_out = left_out_of(checkpoint).said() or 'nothing'
    return f'{", ".join(found)} and {histories} histories; left out: {left_out}.'


def check_groups(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse the state of an optimizer of other parameters.

    Args:
        saved: The checkpoint's ``optimizer``.
        own: The training's, of one optimizer; of several nothing is checked here.

    Raises:
        ValueError: The number of groups, or of parameters in one, differs.
    """
    if 'param_groups' not in own:
        return
    groups = saved.get('param_groups')
    found = [parameters_in(group) for group in groups] if isinstance(groups, Sequence) else []
    wanted = [parameters_in(group) for group in own['param_groups']]
    if found != wanted:
        raise ValueError(
            f'expected the optimizer of {sum(wanted)} parameters in {len(wanted)} groups, found '
            f'{sum(found)} in {len(found)}: what trains, or paramwise_cfg, was another; load_from '
            'takes the weights alone'
        )


def parameters_in(group: Any) -> int:
    """How many parameters a group has."""
    params = group.get('params') if isinstance(group, Mapping) else None
    return len(params) if isinstance(params, Sequence) else 0


def mark_step(meta: dict[str, Any], optim_wrapper: Any) -> Iterator[str]:
    """Note in what is to be saved whether the gradients of the last iterations are in the weights.

    Args:
        meta: Of the checkpoint.
        optim_wrapper: MMEngine's, or several by name; what else there may be is not asked.

    Yields:
        A warning if they are not.
    """
    several = isinstance(optim_wrapper, OptimWrapperDict)
    wrappers = [*optim_wrapper.values()] if several else [optim_wrapper]
    if not all(isinstance(wrapper, OptimWrapper) for wrapper in wrappers):
        return
    meta['whole_step'] = all(wrapper.should_update() for wrapper in wrappers)
    if not meta['whole_step']:
        yield (
            f'The checkpoint of iteration {meta["iter"]} is from the middle of a step and cannot '
            'be resumed: save at multiples of optim_wrapper.accumulative_counts '
            '(default_hooks.checkpoint.interval).'
        )


def check_step(checkpoint: Mapping[str, Any], loop: Any, count: int) -> None:
    """Refuse a checkpoint from the middle of a step, whose gradients so far are not in it.

    Args:
        checkpoint: Checked by `check_progress`.
        loop: The training loop.
        count: Iterations of a step of this training.

    Raises:
        ValueError: It is in the middle of a step of its own training, or would be of this one.
    """
    iteration = checkpoint['meta']['iter']
    if checkpoint['meta'].get('whole_step') is False:
        raise ValueError(
            f'expected a checkpoint behind a whole step, found iteration {iteration} in the middle '
            'of one (optim_wrapper.accumulative_counts), whose gradients are not in it; save at '
            'multiples of it (default_hooks.checkpoint.interval)'
        )
    if iteration % count and iteration < loop.max_iters:
        raise ValueError(
            f'expected meta.iter to be a multiple of optim_wrapper.accumulative_counts, {count}, '
            f'found {iteration}: the next step would be of {count - iteration % count} iterations'
        )


def check_schedulers(states: Any, schedulers: Any) -> None:
    """Refuse states that are not of these schedulers, which take any attribute that they are given.

    Args:
        states: As they were saved.
        schedulers: A list, or a dict of lists, one for each optimizer.

    Raises:
        ValueError: Their number, their attributes or the kind of one of these differs.
    """
    if isinstance(schedulers, dict):
        if not isinstance(states, dict) or states.keys() != schedulers.keys():
            raise ValueError(f'expected param_schedulers of {", ".join(schedulers)}')
        for name, some in schedulers.items():
            check_schedulers(states[name], some)
        return
    if not isinstance(states, Sequence) or len(states) != len(schedulers):
        found = len(states) if isinstance(states, Sequence) else 'none'
        raise ValueError(f'expected {len(schedulers)} param_schedulers, found {found}')
    for state, scheduler in zip(states, schedulers, strict=True):
        kind, own = type(scheduler).__name__, scheduler.state_dict()
        own = {name: value for name, value in own.items() if not callable(value)}  # never saved
        if not isinstance(state, dict) or state.keys() != own.keys():
            raise ValueError(f'expected the state of a {kind} among param_schedulers')
        for name, value in state.items():
            if not same_kind(value, own[name]):
                raise ValueError(
                    f'expected {kind}.{name} to be like {own[name]!r}, found {value!r}'
                )


def same_kind(value: Any, own: Any) -> bool:
    """Whether both are numbers, or of one type; what stands inside a container is of any."""
    if isinstance(own, (int, float)) and not isinstance(own, bool):
        return isinstance(value, (int, float, Tensor)) and not isinstance(value, bool)
    if isinstance(own, Mapping):
        return isinstance(value, Mapping)
    if isinstance(own, (list, tuple)):
        return isinstance(value, (list, tuple))
    return type(value) is type(own)


def history_of(packed: Any, name: str) -> HistoryBuffer:
    """The history of a scalar from tensors.

    Args:
        packed: ``values`` and ``counts``, both (N,), and ``max_length``.
        name: The scalar's.

    Raises:
        ValueError: It is of another form.
    """
    try:
        values, counts = packed['values'].numpy(), packed['counts'].numpy()
        if values.ndim == 1 and values.shape == counts.shape and packed['max_length'] > 0:
            return HistoryBuffer(values, counts, int(packed['max_length']))
    except (AttributeError, KeyError, TypeError, OverflowError):
        pass
    raise ValueError(f'expected the history of {name} in message_hub.log_scalars to be tensors')


def believe_own(info: dict[str, Any], folder: Path, names: str) -> list[str]:
    """Keep, in place, only what names checkpoints directly in a run's own folder.

    Args:
        info: A message hub's ``runtime_info``.
        folder: The run's, which may be a copy: of a path, the last part counts.
        names: Pattern of its checkpoints' names.

    Returns:
        What was dropped, a sentence each.
    """
    dropped = []
    for key, value in list(info.items()):
        if key == 'best_ckpt' or key.startswith('best_ckpt_'):
            name = Path(value).name if isinstance(value, str) else ''
            if is_best(name, names) and (folder / name).is_file():
                info[key] = str(folder / name)
                continue
        elif key == 'last_ckpt':
            name = Path(value).name if isinstance(value, str) else ''
            if step_of(name, [names]) is not None and (folder / name).is_file():
                info[key] = str(folder / name)
                continue
            value = None
        elif key == 'best_score' or key.startswith('best_score_'):
            if isinstance(value, (int, float)) and math.isfinite(value):
                continue
        elif key == 'keep_ckpt_ids':
            if isinstance(value, list) and all(type(step) is int and step >= 0 for step in value):
                info[key] = sorted(set(value))
                continue
        else:
            continue
        del info[key]
        if value is not None:
            dropped.append(f'{key} is {value!r}, which is nothing of {folder}: it is left out.')
    return dropped


def is_best(name: str, names: str) -> bool:
    """Whether that is what the best checkpoint by some score may be called."""
    starts = [place for place, character in enumerate(name) if character == '_']
    return name.startswith('best_') and any(
        step_of(name[place + 1 :], [names]) is not None for place in starts[1:]
    )
