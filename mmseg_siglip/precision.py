"""What is fast on a device: the number format of products, and how attention trains."""

from __future__ import annotations

import platform

import torch

from mmseg_siglip.misspelt import did_you_mean

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
PRECISIONS = ('auto', *DTYPES)
MULTIPLY_BF16 = ('AMX', 'AVX512-BF16')


@torch.compiler.assume_constant_result
def cpu_kind() -> str:
    """The best units of this CPU for products.

    ``AMX``, ``AVX512-BF16``, ``AVX512``, ``AVX2``, or its architecture where it has none of them.
    """
    units = {
        'AMX': torch.cpu._is_amx_tile_supported,
        'AVX512-BF16': torch.cpu._is_avx512_bf16_supported,
        'AVX512': torch.cpu._is_avx512_supported,
        'AVX2': torch.cpu._is_avx2_supported,
    }
    return next((kind for kind, supported in units.items() if supported()), platform.machine())


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
            f'{did_you_mean(precision, PRECISIONS)}'
        )
    if precision != 'auto':
        return DTYPES[precision]
    if device.type == 'cuda':
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == 'cpu' and cpu_kind() in MULTIPLY_BF16:
        return torch.bfloat16
    return torch.float32


def compute_name(precision: str, device: torch.device) -> str:
    """`compute_dtype` by its name among `DTYPES`: of ``auto``, what it means here and now."""
    dtype = compute_dtype(precision, device)
    return next(name for name, value in DTYPES.items() if value == dtype)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context in which matrix products on `device` run in `precision`."""
    dtype = compute_dtype(precision, device)
    enabled = dtype != torch.float32
    return torch.autocast(device.type, dtype=dtype if enabled else None, enabled=enabled)


def training_attention(name: str = 'auto') -> str:
    """transformers' implementation of attention to train with, on the device that MMEngine takes.

    ``auto`` is ``eager``, attention as it is written, on a CPU that multiplies bfloat16, where it
    takes a fraction of the fused kernel's time; everywhere else the fused ``sdpa``. Any other name
    is returned as it is.
    """
    if name != 'auto':
        return name
    on_cpu = not torch.cuda.is_available()
    return 'eager' if on_cpu and cpu_kind() in MULTIPLY_BF16 else 'sdpa'
