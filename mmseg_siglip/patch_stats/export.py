"""Patch statistics as files, and what they are on average.

Shapes: N patches, K statistics.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from mmseg_siglip.patch_stats.statistics import PatchStatistics


def metadata(statistics: PatchStatistics) -> dict[str, str]:
    rows, columns = statistics.grid
    return dict(
        names=','.join(statistics.names),
        grid=f'{rows},{columns}',
        space=statistics.space,
        unit=statistics.unit,
    )


def to_npz(statistics: PatchStatistics) -> bytes:
    file = io.BytesIO()
    about = {name: np.array(text) for name, text in metadata(statistics).items()}
    np.savez(file, values=statistics.values[0].numpy(), **about)
    return file.getvalue()


def from_npz(data: bytes) -> Tensor:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return torch.from_numpy(arrays['values'])


FORMATS: dict[str, tuple[Callable[[PatchStatistics], bytes], Callable[[bytes], Tensor]]] = {
    'npz': (to_npz, from_npz),
    'safetensors': (
        lambda s: save_safetensors(dict(values=s.values[0].contiguous()), metadata(s)),
        lambda data: load_safetensors(data)['values'],
    ),
}
"""To and from the bytes of a file: of one map, ``values`` (N, K) and what they are."""


class Moments:
    """Mean and standard deviation of each statistic over all patches that have one.

    Args:
        count: K.
    """

    def __init__(self, count: int) -> None:
        self.number, self.total, self.squares = torch.zeros(3, count, dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Take in (N, K)."""
        values, finite = values.double(), torch.isfinite(values)
        values = torch.where(finite, values, 0)
        self.number += finite.sum(0)
        self.total += values.sum(0)
        self.squares += (values**2).sum(0)

    def summary(self) -> dict[str, list[float]]:
        """``mean`` and ``std``, for `PatchStatisticsFusion`; a std of 0 becomes 1."""
        mean = self.total / self.number.clamp(min=1)
        std = (self.squares / self.number.clamp(min=1) - mean**2).clamp(min=0).sqrt()
        return dict(mean=mean.tolist(), std=torch.where(std > 1e-9, std, 1).tolist())
