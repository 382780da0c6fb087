"""A training stops where its loss is no number."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmseg_siglip.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Ends a training whose loss is not finite several times in a row, in any of its processes.

    One such step leaves most models with weights that are not finite, and nothing mends them.
    `CheckpointHook` saves nothing while the loss or a weight is not finite, so that what is left is
    whole.

    Args:
        patience: Iterations in a row.

    Attributes:
        since: The iteration, from 1, since which the loss is not finite; 0 while it is.

    Raises:
        ValueError: On training, when the patience is over, or at the end of a training whose last
            loss or weights are not finite.
    """

    priority = 'VERY_HIGH'

    def __init__(self, patience: int = 10) -> None:
        if patience < 1:
            raise ValueError(f'FiniteLossHook.patience: expected 1 or more, found {patience}')
        self.patience = patience
        self.since, self.names = 0, ''

    def before_train(self, runner: Runner) -> None:
        self.since = 0

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Mapping[str, Tensor] | None = None,
    ) -> None:
        wrong = not_finite(outputs or {})
        anywhere = torch.tensor(float(bool(wrong)))
        if get_world_size() > 1:
            all_reduce(anywhere, 'max')
        if not anywhere:
            self.since = 0
            return
        self.names = ', '.join(wrong) or 'the loss of another process'
        iteration = runner.iter + 1
        self.since = self.since or iteration
        if iteration - self.since + 1 >= self.patience:
            raise ValueError(self._sentence(runner, iteration))

    def after_train(self, runner: Runner) -> None:
        if self.since:
            raise ValueError(self._sentence(runner, runner.iter))
        if lost := weights_not_finite(runner.model):
            self.names, self.since = f'the weights {lost}', runner.iter
            raise ValueError(self._sentence(runner, runner.iter))

    def _sentence(self, runner: Runner, last: int) -> str:
        kept = runner.message_hub.get_info('last_ckpt')
        return (
            f'the training stops: {self.names} not finite since iteration {self.since}, '
            f'{last - self.since + 1} times in a row; '
            f'{f"{kept} is from before" if kept else "no checkpoint is from before"}. Lower '
            'optim_wrapper.optimizer.lr, set optim_wrapper.clip_grad, or look for samples that are '
            'not finite, and --resume.'
        )


def not_finite(losses: Mapping[str, Tensor | float]) -> list[str]:
    """The names of losses that are not finite; of their sum only if no other is named."""

    def is_wrong(value: Tensor | float) -> bool:
        return not torch.isfinite(torch.as_tensor(value)).all()

    if 'loss' in losses and not is_wrong(losses['loss']):
        return []
    names = [name for name, value in losses.items() if 'loss' in name and is_wrong(value)]
    return [name for name in names if name != 'loss'] or names


def weights_not_finite(model: nn.Module) -> str:
    """The name of the first trained weight that is not finite."""
    trained = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
    return next((name for name, p in trained if not torch.isfinite(p).all()), '')


def what_is_lost(runner: Runner) -> str:
    """What is not finite in a training, so that its weights are not worth keeping."""
    if any(isinstance(hook, FiniteLossHook) and hook.since for hook in runner.hooks):
        return 'the loss'
    return weights_not_finite(runner.model)
