"""PAMR on a GPU by one Triton kernel an iteration.

Compared with torch in Triton's interpreter (``TRITON_INTERPRET=1``), which runs kernels on a CPU; a
GPU has not run it yet.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmseg_siglip.kept import constant

BLOCK = 512


@triton.jit
def pamr_kernel(
    now,
    after,
    affinity,
    dilations,
    planes,
    channels,
    height,
    width,
    count: tl.constexpr,
    block: tl.constexpr,
):
    """A block of pixels of one plane; those of other planes, which want the same affinities, are
    neighbours in time."""
    pixels = height * width
    plane = (tl.program_id(0) % planes).to(tl.int64)
    at = (tl.program_id(0) // planes) * block + tl.arange(0, block)
    inside = at < pixels
    y, x = at // width, at % width
    source = now + plane * pixels
    weight = affinity + (plane // channels) * 8 * count * pixels + at
    total = tl.full((block,), 0.0, tl.float32)
    for k in tl.static_range(count):
        d = tl.load(dilations + k)
        for place in tl.static_range(9):
            if place != 4:
                row = tl.minimum(tl.maximum(y + d * (place // 3 - 1), 0), height - 1)
                column = tl.minimum(tl.maximum(x + d * (place % 3 - 1), 0), width - 1)
                near = tl.load(source + row * width + column, mask=inside, other=0.0)
                total += near * tl.load(weight, mask=inside, other=0.0)
                weight += pixels
    tl.store(after + plane * pixels + at, total, mask=inside)


def iterate_by_triton(
    logits: Tensor, weights: Tensor, dilations: Sequence[int], num_iter: int
) -> Tensor:
    """Iterations of PAMR.

    Args:
        logits: (B, C, H, W), float32.
        weights: (B, P, H, W) or (B, P, 1, H, W), float32, of `affinity`.
        dilations: Distances of the neighbours, in pixels.
        num_iter: Repetitions.

    Returns:
        (B, C, H, W).
    """
    batch, channels, height, width = logits.shape
    now, after = logits.clone(memory_format=torch.contiguous_format), None
    reaches = constant(tuple(dilations), dtype=torch.int32, device=logits.device)
    sizes = batch * channels, channels, height, width, len(dilations)
    grid = (triton.cdiv(height * width, BLOCK) * batch * channels,)
    weights = weights.contiguous()
    for _ in range(num_iter if logits.numel() else 0):
        after = torch.empty_like(now) if after is None else after
        with torch.cuda.device_of(logits):  # Triton launches on the current one
            pamr_kernel[grid](now, after, weights, reaches, *sizes, block=BLOCK)
        now, after = after, now
    return now
