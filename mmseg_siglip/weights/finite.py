"""Weights that are numbers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def refuse_not_finite(state: Mapping[str, Tensor], source: object) -> None:
    """Refuse weights with NaN or infinity among them, which would label every pixel alike.

    Args:
        state: Tensors by name.
        source: Where they come from, for the message.

    Raises:
        ValueError: There are such.
    """
    for name, tensor in state.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        if tensor.element_size() == 1:  # float8, which has no order
            tensor = tensor.float()
        if all(map(torch.isfinite, tensor.aminmax())):  # both are NaN where one of the values is
            continue
        count = int((~torch.isfinite(tensor)).sum())
        raise ValueError(
            f'{source}: expected finite weights, found {count} of {tensor.numel()} in {name} that '
            'are NaN or infinite'
        )
