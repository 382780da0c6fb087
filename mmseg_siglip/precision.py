"""Which number format the encoder computes in."""

from __future__ import annotations

import torch

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
PRECISIONS = ('auto', *DTYPES)


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The format that `precision` means on `device`.

    ``auto`` is the fastest format that the device has matrix units for: bfloat16 or float16 on a
    GPU, bfloat16 on a CPU that multiplies it (AMX, AVX512-BF16), float32 elsewhere.

    Raises:
        ValueError: `precision` has no meaning.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f'unknown precision {precision!r}; expected one of {", ".join(PRECISIONS)}'
        )
    if precision != 'auto':
        return DTYPES[precision]
    if device.type == 'cuda':
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    units = torch.cpu._is_amx_tile_supported, torch.cpu._is_avx512_bf16_supported
    if device.type == 'cpu' and any(supported() for supported in units):
        return torch.bfloat16
    return torch.float32


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context in which matrix products on `device` run in `precision`."""
    dtype = compute_dtype(precision, device)
    enabled = dtype != torch.float32
    return torch.autocast(device.type, dtype=dtype if enabled else None, enabled=enabled)
