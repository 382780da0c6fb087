"""Where to compute, and the ways there and back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from mmseg_siglip.later import Later


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


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`.

    The host does not wait for a GPU: the copy is out of page-locked memory, behind the work that
    the GPU has already.
    """
    if device.type != 'cuda' or tensor.device.type != 'cpu':
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """`tensors` on the CPU; for those of a GPU the host waits once, not once for each."""
    return to_host_later(tensors)()


def to_host_later(tensors: Sequence[Tensor]) -> Later[list[Tensor]]:
    """`tensors` on the CPU later: the host waits for a GPU's work until here, and for no other."""
    gpus = {tensor.device for tensor in tensors if tensor.is_cuda}
    far = [tensor.is_cuda for tensor in tensors]
    copies = [tensor.to('cpu', non_blocking=tensor.is_cuda) for tensor in tensors]
    events = [torch.cuda.current_stream(device).record_event() for device in gpus]

    def arrived() -> list[Tensor]:
        for event in events:
            event.synchronize()
        # What a GPU copies to is page-locked, which the results of many images should not remain.
        return [copy.clone() if late else copy for copy, late in zip(copies, far, strict=True)]

    return Later(arrived, ready=not events)


def made_on(tensor: Tensor) -> AbstractContextManager:
    """While open, tensors that are made without a device are on that of `tensor`, if it is a GPU.

    For models of other libraries, which make constants on the CPU and have the host wait for the
    way of each.
    """
    return tensor.device if tensor.is_cuda else nullcontext()


def device_memory(device: torch.device) -> int | None:
    """Bytes of a GPU; None of a CPU, which has caches that matter more."""
    if device.type != 'cuda':
        return None
    return torch.cuda.get_device_properties(device).total_memory


def chunk_bytes(device: torch.device, on_cpu: int) -> int:
    """Bytes of what is made some part at a time: `on_cpu`, about what its caches hold, or on a GPU,
    for which every part is a wait of its own, a sixty-fourth of its memory if that is more."""
    return max(on_cpu, (device_memory(device) or 0) // 64)


def at_once(item_bytes: int, device: torch.device, on_cpu: int) -> int:
    """How many items of so many bytes `chunk_bytes` hold, one at the least."""
    return max(1, chunk_bytes(device, on_cpu) // max(1, item_bytes))
