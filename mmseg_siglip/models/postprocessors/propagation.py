"""Scores that spread along the edges of a graph, until neighbours agree.

LPOSS, https://arxiv.org/abs/2503.19777. Shapes: Q words, N nodes; an image of (H, W) pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmseg_siglip.device import at_once
from mmseg_siglip.kept import channels, constant
from mmseg_siglip.models.postprocessors.context import Context
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import MODELS

CHUNK_BYTES = 16 * 2**20  # of a step's vectors, about what caches hold
ENOUGH = 1e-6  # residual, as a part of what is given, at which a word is done
XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
D65 = (0.95047, 1.0, 1.08883)
LAB = (100.0, 128.0, 128.0)


def conjugate_gradients(apply: Callable[[Tensor], Tensor], y: Tensor, steps: int) -> Tensor:
    """x with ``apply(x)`` near y, for all words at once, as if each were solved alone.

    Args:
        apply: A symmetric positive definite matrix times each row, (Q, N) to the same.
        y: (Q, N).
        steps: After so many it ends.
    """
    x, residual = torch.zeros_like(y), y
    direction, squared = y, y.square().sum(1, keepdim=True)
    limit = ENOUGH * squared.sqrt()
    for _ in range(steps):
        going = squared.sqrt() > limit
        image = apply(direction)
        step = torch.where(going, squared / (direction * image).sum(1, keepdim=True), 0.0)
        x, residual = x + step * direction, residual - step * image
        last, squared = squared, residual.square().sum(1, keepdim=True)
        direction = residual + torch.where(going, squared / last, 0.0) * direction
    return x


@MODELS.register_module()
class PixelPropagation(BaseModule):
    """LPOSS+: scores of an image's pixels spread to neighbours of like colour.

    Solves (I - a W) x = y by `steps` of conjugate gradients, W the normalised weights
    exp(-‖ΔLab / (100, 128, 128)‖ / t) between a pixel and the others in a square around it. The
    graph is that of the image at the size that the encoder sees, in float64, and is held as one
    plane for each of half the neighbours' places; words are solved some at a time.

    Args:
        radius: Half the side of the square, without the pixel itself: 6 of 13 x 13.
        temperature: t.
        alpha: a.
        steps: Of conjugate gradients.
    """

    at = 'image'

    def __init__(
        self,
        *,
        radius: int = 6,
        temperature: float = 0.01,
        alpha: float = 0.95,
        steps: int = 10,
    ) -> None:
        super().__init__()
        if radius < 1 or not 0 <= alpha < 1:
            raise ValueError(
                'PixelPropagation: expected radius of 1 or more and alpha in [0, 1), found '
                f'{radius} and {alpha}'
            )
        self.radius, self.temperature, self.alpha, self.steps = radius, temperature, alpha, steps

    @torch.no_grad()
    def forward(self, images: Tensor, logits: Tensor, context: Context) -> Tensor:
        """Scores (B, Q, H, W) to the same; `images` are not used, but ``context.pixels``."""
        with autocast('fp32', logits.device):
            return torch.stack(
                [self._spread(*pair) for pair in zip(context.pixels, logits, strict=True)]
            )

    def _spread(self, pixels: Tensor, scores: Tensor) -> Tensor:
        colours = lab(pixels.double())
        colours = colours / channels(LAB, colours)
        size = tuple(scores.shape[-2:])
        edges = balanced(pixel_edges(colours, self.radius, self.temperature), size)

        def apply(x: Tensor) -> Tensor:
            planes = x.unflatten(1, size)
            return x - self.alpha * spread(edges, planes).flatten(1)

        words = at_once(4 * 8 * size[0] * size[1], scores.device, CHUNK_BYTES)
        parts = [
            conjugate_gradients(apply, part.double().flatten(1), self.steps).to(scores.dtype)
            for part in scores.split(words)
        ]
        return torch.cat(parts).unflatten(1, size)


Edges = list[tuple[tuple, tuple, Tensor]]
"""For each place of a neighbour, the pixels that have one there, as an index (..., rows, columns),
those neighbours, and the weights between them."""


def pixel_edges(colours: Tensor, radius: int, temperature: float) -> Edges:
    """Weights between pixels of colours (3, H, W); each pair once, none with itself."""
    height, width = colours.shape[-2:]
    edges: Edges = []
    for down in range(min(radius, height - 1) + 1):
        for right in range(-min(radius, width - 1), min(radius, width - 1) + 1):
            if (down, right) <= (0, 0):
                continue
            left = max(0, -right)
            here = ..., slice(0, height - down), slice(left, width - max(0, right))
            there = ..., slice(down, height), slice(left + right, width + min(0, right))
            apart = (colours[here] - colours[there]).square().sum(0).sqrt()
            edges.append((here, there, (-apart / temperature).exp()))
    return edges


def balanced(edges: Edges, size: tuple[int, int]) -> Edges:
    """D^-½ W D^-½, D the sum of a pixel's weights, of an image of `size`."""
    if not edges:
        return edges
    ones = edges[0][2].new_ones(1, *size)
    degree = spread(edges, ones)[0]
    root = torch.where(degree > 0, degree, 1.0).rsqrt()
    return [(here, there, w * root[here] * root[there]) for here, there, w in edges]


def spread(edges: Edges, planes: Tensor) -> Tensor:
    """Each pixel's weighted sum of its neighbours: (Q, H, W) to the same."""
    total = torch.zeros_like(planes)
    for here, there, weights in edges:
        total[here].addcmul_(weights, planes[there])
        total[there].addcmul_(weights, planes[here])
    return total


def lab(pixels: Tensor) -> Tensor:
    """CIE L*a*b* under D65 of sRGB in [0, 1], (3, H, W): L in [0, 100]."""
    linear = torch.where(pixels > 0.04045, ((pixels + 0.055) / 1.055) ** 2.4, pixels / 12.92)
    matrix = constant(XYZ, dtype=pixels.dtype, device=pixels.device)
    xyz = torch.einsum('ij,jhw->ihw', matrix, linear) / channels(D65, pixels)
    root = torch.where(xyz > 0.008856, xyz.clamp(min=0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = root
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])
