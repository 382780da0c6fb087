"""Where to compute."""

from __future__ import annotations

import torch


def find_device(device: str | torch.device | None = None) -> torch.device:
    """`device`; by default the GPU, if there is one.

    Raises:
        ValueError: It is no device's name, or there is no such GPU.
    """
    gpus = torch.cuda.device_count()
    if device is None:
        return torch.device('cuda' if gpus else 'cpu')
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ValueError(
            f'device: expected a name such as cuda:0 or cpu, found {device!r}'
        ) from None
    if found.type == 'cuda' and not gpus:
        raise ValueError(f'device {device}: no GPU is found')
    if found.type == 'cuda' and (found.index or 0) >= gpus:
        raise ValueError(f'device {device}: expected cuda:0 to cuda:{gpus - 1}')
    return found
