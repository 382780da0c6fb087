"""Pixel-adaptive mask refinement (PAMR), https://arxiv.org/abs/2005.08104.

Shapes: B images, C mask channels, (H, W) pixels, P = 8 |dilations| neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn.functional import interpolate, pad

from mmseg_siglip.device import chunk_bytes
from mmseg_siglip.models.postprocessors.compiled_pamr import refine_compiled, triton_kernel
from mmseg_siglip.models.postprocessors.context import Context
from mmseg_siglip.registry import MODELS

ON_CPU = 8
"""Channels that a processor's cache holds."""
RING = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def neighbours(dilations: Sequence[int]) -> list[tuple[int, int]]:
    """(dy, dx) of the P neighbours: the ring of 8 at each dilation, the centre left out."""
    return [(d * dy, d * dx) for d in dilations for dy, dx in RING]


class Shifts:
    """Views of an image moved by (dy, dx), its border replicated."""

    def __init__(self, x: Tensor, radius: int) -> None:
        self.height, self.width = x.shape[-2:]
        self.radius = radius
        self.padded = pad(x, (radius,) * 4, mode='replicate')

    @property
    def inside(self) -> Tensor:
        """The image itself; after writing to it, `replicate_border`."""
        return self(0, 0)

    def replicate_border(self) -> None:
        padded, r = self.padded, self.radius
        padded[..., :r] = padded[..., r : r + 1]
        padded[..., -r:] = padded[..., -r - 1 : -r]
        padded[..., :r, :] = padded[..., r : r + 1, :]
        padded[..., -r:, :] = padded[..., -r - 1 : -r, :]

    def __call__(self, dy: int, dx: int) -> Tensor:
        top, left = self.radius + dy, self.radius + dx
        return self.padded[..., top : top + self.height, left : left + self.width]


def affinity(images: Tensor, dilations: Sequence[int]) -> Tensor:
    """How much each neighbour counts: similar colours count most.

    softmax over neighbours of the channel mean of ``-|x_i - x_j| / (1e-8 + 0.1 std)``, with std
    the sample deviation over the dilated 3x3 neighbourhoods, centre included once per dilation.

    Args:
        images: (B, 3, H, W).
        dilations: Distances of the neighbours, in pixels.

    Returns:
        (B, P, H, W), sums to 1 over P.
    """
    offsets = neighbours(dilations)
    moved = Shifts(images, max(dilations))
    count = len(offsets) + len(dilations)
    mean = images * len(dilations)
    for offset in offsets:
        mean = mean + moved(*offset)
    mean = mean / count
    variance = (images - mean).square() * len(dilations)
    for offset in offsets:
        variance += (moved(*offset) - mean).square()
    scale = -1 / (1e-8 + 0.1 * (variance / (count - 1)).sqrt())
    distance = [((images - moved(*offset)).abs() * scale).mean(1) for offset in offsets]
    return torch.stack(distance, dim=1).softmax(dim=1)


@MODELS.register_module()
class PAMRPostProcessor(BaseModule):
    """Replace each pixel's logits by the affinity-weighted mean of its neighbours', repeatedly.

    The neighbours are added one by one, so nothing of size P times the logits is ever stored.

    Args:
        num_iter: Repetitions; 0 leaves the logits as they are.
        dilations: Distances of the neighbours, in pixels.
        channels: Channels refined at a time. By default 8 on a CPU, to stay within its cache, and
            on a GPU, where a kernel costs its start, as many as `chunk_bytes` hold.
        compiled: Refine float32 logits of images of three channels by code compiled at the first
            picture, equal to 1e-5 of the largest: on a CPU by loops in C, by the machine's own
            compiler, on a GPU by one Triton kernel an iteration. Where they cannot be compiled, a
            warning says why and torch refines; others are always torch's.

    Raises:
        ValueError: A count or distance out of range.
    """

    def __init__(
        self,
        *,
        num_iter: int = 10,
        dilations: Sequence[int] = (8, 16),
        channels: int | None = None,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        if num_iter < 0 or not dilations or min(dilations) < 1:
            raise ValueError(
                'PAMRPostProcessor: expected num_iter >= 0 and dilations >= 1, '
                f'found {num_iter} and {tuple(dilations)}'
            )
        self.num_iter, self.dilations, self.channels = num_iter, tuple(dilations), channels
        self.compiled = compiled

    @torch.no_grad()
    def forward(self, images: Tensor, logits: Tensor, context: Context | None = None) -> Tensor:
        """Refine `logits` (B, C, h, w) on `images` (B, 3, H, W); returns (B, C, H, W)."""
        if logits.shape[-2:] != images.shape[-2:]:
            logits = interpolate(
                logits, size=images.shape[-2:], mode='bilinear', align_corners=True
            )
        if self.num_iter == 0:
            return logits
        compiled = self.compiled and logits.dtype == torch.float32
        compiled &= images.shape[:2] == (len(logits), 3) and images.device == logits.device
        if compiled and logits.device.type == 'cpu':
            refined = refine_compiled(images, logits, self.dilations, self.num_iter)
            if refined is not None:
                return refined
        weights = affinity(images.float(), self.dilations).unsqueeze(2)
        refine = (self._by_triton(logits.device) if compiled else None) or self._refine
        refined = torch.empty_like(logits)
        parts = (tensor.split(self._at_once(logits), dim=1) for tensor in (logits, refined))
        for part, place in zip(*parts, strict=True):
            place.copy_(refine(part, weights))
        return refined

    def _at_once(self, logits: Tensor) -> int:
        if self.channels is not None:
            return self.channels
        if not logits.is_cuda:
            return ON_CPU
        held = chunk_bytes(logits.device, 0)
        return max(ON_CPU, held // (2 * logits[:, :1].numel() * logits.element_size()))

    def _by_triton(self, device: torch.device) -> Callable[[Tensor, Tensor], Tensor] | None:
        kernel = triton_kernel(device) if device.type == 'cuda' else None
        return kernel and partial(kernel, dilations=self.dilations, num_iter=self.num_iter)

    def _refine(self, mask: Tensor, weights: Tensor) -> Tensor:
        now = Shifts(mask, max(self.dilations))
        after = Shifts(mask, max(self.dilations))
        for _ in range(self.num_iter):
            total = after.inside.zero_()
            for p, offset in enumerate(neighbours(self.dilations)):
                total.addcmul_(now(*offset), weights[:, p])
            after.replicate_border()
            now, after = after, now
        return now.inside
