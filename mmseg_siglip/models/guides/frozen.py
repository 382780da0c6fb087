"""A second model beside an encoder: it looks, and never learns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Frozen(nn.Module):
    """Holds a model that moves with its owner and is otherwise not seen: it has no gradients, stays
    in eval mode, and its weights are neither its owner's parameters nor in its checkpoints.

    Args:
        model: What is held, and called without gradients.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._held = (model.requires_grad_(False).eval(),)  # in a tuple it is no child

    @property
    def model(self) -> nn.Module:
        return self._held[0]

    def _apply(self, fn, recurse: bool = True) -> Frozen:
        self.model._apply(fn)
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def forward(self, *args: Any, **options: Any) -> Any:
        return self.model(*args, **options)


def all_weights(module: nn.Module) -> dict[str, Tensor]:
    """All that a module's results depend on, by name: its state, and that of second models."""
    weights = dict(module.state_dict())
    for name, child in module.named_modules():
        if isinstance(child, Frozen):
            held = child.model.state_dict()
            weights.update({f'{name}.{key}': value for key, value in held.items()})
    return weights
