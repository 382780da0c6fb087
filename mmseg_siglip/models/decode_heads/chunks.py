"""Running a function on slices of its input, so that its intermediate tensors stay small."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_chunks(
    function: Callable[[Tensor], Tensor], x: Tensor, *, dim: int, size: int, with_cp: bool = False
) -> Tensor:
    """`function` of slices of `x`, put together again.

    Args:
        function: Treats the slices along `dim` independently.
        x: What is cut.
        dim: Where to cut and to join.
        size: Length of a slice.
        with_cp: Recompute each slice in the backward pass. While gradients are wanted and this is
            off, `x` is not cut: all intermediate tensors would be kept anyway.
    """
    learning = torch.is_grad_enabled()
    size = max(size, 1)
    if learning and not with_cp or x.shape[dim] <= size and not with_cp:
        return function(x)
    parts = x.split(size, dim=dim)
    if learning:
        parts = [checkpoint(function, part, use_reentrant=False) for part in parts]
    else:
        parts = [function(part) for part in parts]
    return torch.cat(parts, dim=dim)
