"""What weights have that others lack."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def differing(state: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of `state` that `other` does not have, by name, shape, number format and value."""
    return {name: value for name, value in state.items() if not _equal(value, other.get(name))}


def tensors_digest(state: Mapping[str, Tensor]) -> str:
    """Hexadecimal SHA-256 of names, shapes, number formats and values, in the order of names."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f'{name} {tuple(value.shape)} {value.dtype}'.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _equal(value: Tensor, other: Tensor | None) -> bool:
    return (
        other is not None
        and value.dtype == other.dtype
        and torch.equal(value.detach().cpu(), other.detach().cpu())
    )
