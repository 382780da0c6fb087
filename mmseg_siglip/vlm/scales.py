"""S2: one encoder at several scales, https://arxiv.org/abs/2403.13043.

Shapes: B images of (H, W) pixels; factor s cuts an image of (s*H, s*W) into s*s tiles of (H, W);
grid (h, w), C channels, S scales.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate


def check_scales(scales: Sequence[int]) -> tuple[int, ...]:
    """The factors, rising from 1.

    Raises:
        ValueError: They do not.
    """
    scales = tuple(scales)
    if scales[:1] != (1,) or any(b <= a for a, b in zip(scales, scales[1:], strict=False)):
        raise ValueError(f'scales: expected whole factors that rise from 1, found {scales}')
    return scales


def multi_scale(
    encode: Callable[[Tensor], Tensor], images: Tensor, scales: Sequence[int]
) -> Tensor:
    """Encode tiles of every scale and stack what they say about a place.

    Args:
        encode: (B, 3, H, W) to (B, C, h, w).
        images: (B, 3, s*H, s*W), s the largest factor.
        scales: Factors on (H, W), rising from 1.

    Returns:
        (B, S*C, h, w), the finer scales pooled to the grid of the first.

    Raises:
        ValueError: The images' sides are no multiples of the largest factor.
    """
    height, width = images.shape[-2:]
    largest = scales[-1]
    if height % largest or width % largest:
        raise ValueError(
            f'images: expected sides that {largest} divides, the largest scale, found '
            f'{height}x{width}'
        )
    base = (height // largest, width // largest)
    maps: list[Tensor] = []
    for s in scales:
        size = (s * base[0], s * base[1])
        scaled = images
        if s != largest:
            scaled = interpolate(images.float(), size, mode='bicubic').to(images.dtype)
        tiles = rearrange(scaled, 'b c (i h) (j w) -> (b i j) c h w', i=s, j=s)
        found = encode(tiles)
        whole = rearrange(found, '(b i j) c h w -> b c (i h) (j w)', i=s, j=s)
        maps.append(adaptive_avg_pool2d(whole, found.shape[-2:]))
    return torch.cat(maps, 1)
