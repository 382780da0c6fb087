"""Train a decoder alone first, the encoder too from some iteration on."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmseg_siglip.registry import HOOKS


@HOOKS.register_module()
class UnfreezeBackboneHook(Hook):
    """Holds the backbone's learning rate at 0 for the first `step` iterations.

    Its parameters are in the optimiser and have ``requires_grad`` from the start: what is frozen
    when the optimiser is built is left out of it for good, and what is frozen when DDP wraps the
    model is never reduced between processes. Until `step` the backbone is in eval mode and its
    gradients are zeroed, so that gradient clipping sees the decoder's alone; at `step` the
    optimiser's running means of it start afresh. The price is the backbone's backward pass; two
    runs, ``freeze_backbone=True`` and then ``load_from``, do without.

    Schedulers work on the true learning rates, which are put back after each step.

    Args:
        step: First iteration, from 0, that trains the backbone.
        name: Attribute of the model that is the backbone.

    Raises:
        ValueError: On training, if some of the backbone can never train, or shares a parameter
            group with what is not the backbone.
    """

    priority = 'HIGHEST'

    def __init__(self, *, step: int, name: str = 'backbone') -> None:
        if step < 1:
            raise ValueError(f'UnfreezeBackboneHook.step: expected 1 or more, found {step}')
        self.step, self.name = step, name
        self.groups: list[dict] = []
        self.rates: list[float] = []
        self.handles: list = []

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.backbone: nn.Module = getattr(model, self.name)
        wanted = [p for p in self.backbone.parameters() if p.requires_grad]
        optimizer = runner.optim_wrapper.optimizer
        self.groups = backbone_groups(optimizer, wanted, self.name)
        if runner.iter < self.step:
            self.handles = [p.register_hook(torch.zeros_like) for p in wanted]

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        if runner.iter < self.step:
            self.backbone.eval()
            self.rates = [group['lr'] for group in self.groups]
            for group in self.groups:
                group['lr'] = zero_like(group['lr'])
        elif runner.iter == self.step:
            self._unfreeze(runner)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        for group, rate in zip(self.groups, self.rates, strict=False):
            group['lr'] = rate
        self.rates = []

    def _unfreeze(self, runner: Runner) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = []
        for group in self.groups:
            for parameter in group['params']:
                runner.optim_wrapper.optimizer.state.pop(parameter, None)
        self.backbone.train()
        runner.logger.info(f'Iteration {runner.iter}: {self.name} trains from now on.')


def backbone_groups(
    optimizer: torch.optim.Optimizer, wanted: list[nn.Parameter], name: str
) -> list[dict]:
    """The optimiser's groups that hold `wanted`, and nothing else."""
    ids = {id(parameter) for parameter in wanted}
    if not ids:
        raise ValueError(
            f'UnfreezeBackboneHook: expected a {name} that requires gradients, found it frozen; '
            'leave freeze_backbone off'
        )
    groups = [group for group in optimizer.param_groups if ids & set(map(id, group['params']))]
    inside = {id(parameter) for group in groups for parameter in group['params']}
    if ids - inside:
        raise ValueError(
            f'UnfreezeBackboneHook: {len(ids - inside)} parameters of {name} are not in the '
            'optimiser and would never train'
        )
    if inside - ids:
        raise ValueError(
            f'UnfreezeBackboneHook: {name} shares a parameter group with other parts; set '
            f"optim_wrapper.paramwise_cfg.custom_keys={{'{name}': dict(lr_mult=0.1)}}"
        )
    return groups


def zero_like(rate: float | Tensor) -> float | Tensor:
    return torch.zeros_like(rate) if isinstance(rate, Tensor) else 0.0
