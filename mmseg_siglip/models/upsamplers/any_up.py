"""AnyUp: features of any encoder on a finer grid, guided by the picture.

Paper: https://arxiv.org/abs/2510.12764.
Shapes: n pictures (H, W), features of D channels on a grid (h, w), output grid (h', w'), C = 128
channels of queries and keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, normalize, pad

from mmseg_siglip.device import at_once
from mmseg_siglip.kept import channels
from mmseg_siglip.models.backbones.block import CHUNK_BYTES
from mmseg_siglip.models.backbones.dino import IMAGENET
from mmseg_siglip.models.guides import Frozen
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.fetch import fetch
from mmseg_siglip.weights.state import load_strict, read_state_dict

CHANNELS = 128
HEADS = 4
KERNEL = 5
WINDOW = 0.1
PUBLISHED = dict(
    paper='https://github.com/wimmerth/anyup/releases/download/checkpoint/anyup_paper.pth',
    multi_backbone='https://github.com/wimmerth/anyup/releases/download/checkpoint_v2/anyup_multi_backbone.pth',
)
"""One set of weights for all encoders, trained on DINOv2-S or on several, SigLIP-B among them."""


@MODELS.register_module()
class AnyUp(Frozen):
    """Each output cell is an average of the feature cells near it, so it stays in their space.

    The names and shapes of the weights are the published ones. Not verified against the published
    results, which no weights were at hand for: how rotary channels are paired (halves) and their
    coordinates (rows, then columns, 0 to 1 from border pixel to border pixel); that keys see
    features of unit length; that a kernel at the border averages over what is inside; that the
    3x3 convolution of the attention block is of its queries; and how the attention window is
    rounded (to every cell that the square of +-0.1 of the sides around a query's centre touches).
    A side of one cell is padded by itself, where reflection has nothing to reflect.

    Args:
        pretrained: A file or an address of weights, such as one of `PUBLISHED`. None draws them at
            random.
        size: (h', w'), or one number for both.
        scale: Output cells per feature cell along a side, in place of `size`. With neither, an
            output cell is a pixel.

    Raises:
        ValueError: The weights do not fit, or `size` and `scale` are both given or not positive.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        *,
        size: int | tuple[int, int] | None = None,
        scale: float | None = None,
    ) -> None:
        if size is not None and scale is not None:
            raise ValueError(f'AnyUp: expected size or scale, found both: {size} and {scale}')
        size = (size, size) if isinstance(size, int) else size
        if min(size or (1,)) < 1 or scale is not None and scale <= 0:
            raise ValueError(f'AnyUp: expected a positive size or scale, found {size or scale}')
        model = AnyUpNetwork()
        if pretrained is not None:
            load_strict(model, read_state_dict(fetch(pretrained)), pretrained)
        super().__init__(model)
        self.size, self.scale = size and tuple(size), scale

    def forward(self, features: Tensor, pixels: Tensor) -> Tensor:
        """Features (n, D, h, w) on the grid asked for, (n, D, h', w').

        Args:
            features: Of any encoder, normalised or not. They span the whole picture.
            pixels: (n, 3, H, W), RGB in [0, 1].
        """
        return torch.cat(list(self.rows(features, pixels)), dim=2)

    @torch.no_grad()
    def rows(self, features: Tensor, pixels: Tensor) -> Iterator[Tensor]:
        """The same some rows at a time, (n, D, rows, w')."""
        size = self.size or tuple(pixels.shape[-2:])
        if self.scale is not None:
            size = tuple(max(1, round(self.scale * side)) for side in features.shape[-2:])
        mean, std = (channels(values, pixels) for values in IMAGENET)
        yield from self.model(features, (pixels - mean) / std, size)


class AnyUpNetwork(nn.Module):
    """The weights by their published names; `AnyUp` says what they do."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = encoder(nn.Conv2d(3, CHANNELS, 1, bias=False))
        self.key_encoder = encoder(nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False))
        self.query_encoder = encoder(nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False))
        self.key_features_encoder = encoder(Unification())
        self.aggregation = encoder(nn.Conv2d(2 * CHANNELS, CHANNELS, 3, bias=False))
        self.rope = Rotation()
        self.cross_decode = CrossAttention()

    def forward(self, features: Tensor, image: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
        """(n, D, h, w) and an image (n, 3, H, W), standardised, to rows of (n, D, h', w')."""
        seen = self.rope(self.image_encoder(image))
        queries = adaptive_avg_pool2d(self.query_encoder(seen), size)
        keys = adaptive_avg_pool2d(self.key_encoder(seen), features.shape[-2:])
        unified = self.key_features_encoder(normalize(features, dim=1))
        keys = self.aggregation(mirror_border(torch.cat([keys, unified], dim=1)))
        return self.cross_decode(queries, keys, features)


class Residual1x1(nn.Module):
    """Twice group norm, SiLU and a 1x1 convolution, beside the identity."""

    def __init__(self) -> None:
        super().__init__()
        parts = [
            (nn.GroupNorm(8, CHANNELS), nn.SiLU(), nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False))
            for _ in range(2)
        ]
        self.block = nn.Sequential(*parts[0], *parts[1])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class Unification(nn.Module):
    """Features of any number of channels to C: each channel is compared with C kernels, the kernels
    compete by a softmax, and channels are averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(CHANNELS, 1, KERNEL, KERNEL))

    def forward(self, features: Tensor) -> Tensor:
        """(n, D, h, w) to (n, C, h, w), some channels at a time."""
        border, count = KERNEL // 2, features.shape[1]
        ones = features.new_ones(1, 1, *features.shape[-2:])
        inside = conv2d(ones, torch.ones_like(self.basis[:1]), padding=border)
        step = at_once(4 * CHANNELS * features[:, :1].numel(), features.device, CHUNK_BYTES)
        total = 0
        for part in features.split(step, dim=1):
            plane = part.flatten(0, 1)[:, None]
            shares = (conv2d(plane, self.basis, padding=border) / inside).softmax(1)
            total = total + shares.unflatten(0, part.shape[:2]).sum(1)
        return total / count


class Rotation(nn.Module):
    """Channels turned by angles that grow with the place in the picture."""

    def __init__(self) -> None:
        super().__init__()
        speeds = 2 * math.pi * 100 ** torch.linspace(0, -1, CHANNELS // 4)
        self.freqs = nn.Parameter(torch.block_diag(speeds.repeat(2), speeds.repeat(2)))

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W), same shape out."""
        places = [torch.linspace(0, 1, side, device=x.device) for side in x.shape[-2:]]
        places = torch.stack(torch.meshgrid(*places, indexing='ij'))
        angle = torch.einsum('ahw,ac->chw', places, self.freqs)
        first, second = x.chunk(2, dim=1)
        return x * angle.cos() + torch.cat([-second, first], dim=1) * angle.sin()


class CrossAttention(nn.Module):
    """Output cells look at feature cells; what the heads see is averaged, and values stay raw."""

    def __init__(self) -> None:
        super().__init__()
        self.cross_attn = nn.ModuleDict(
            dict(
                norm_q=nn.RMSNorm(CHANNELS),
                norm_k=nn.RMSNorm(CHANNELS),
                attention=nn.MultiheadAttention(CHANNELS, HEADS),
            )
        )
        self.conv2d = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Iterator[Tensor]:
        """(n, C, h', w'), (n, C, h, w) and (n, D, h, w) to (n, D, h', w'), some rows at a time."""
        part = self.cross_attn
        weights = zip(
            part['attention'].in_proj_weight.chunk(3),
            part['attention'].in_proj_bias.chunk(3),
            strict=True,
        )
        maps = (self.conv2d(queries), part['norm_q']), (keys, part['norm_k'])
        q, k = (  # (n, rows, columns, heads, d)
            nn.functional.linear(norm(x.movedim(1, -1)), *weight).unflatten(-1, (HEADS, -1))
            for (x, norm), weight in zip(maps, weights, strict=False)
        )
        q = q * q.shape[-1] ** -0.5
        rows, columns = (
            reach(whole, cells, device=q.device)
            for whole, cells in zip(queries.shape[-2:], keys.shape[-2:], strict=True)
        )
        row_bytes = 4 * HEADS * q[:, 0, :, 0, 0].numel() * k[0, :, :, 0, 0].numel()
        step = at_once(row_bytes, q.device, CHUNK_BYTES)
        for first in range(0, len(rows), step):
            own = rows[first : first + step]
            logits = torch.einsum('nijad,nklad->naijkl', q[:, first : first + step], k)
            near = own[:, None, :, None] & columns[None, :, None, :]
            logits = logits.masked_fill(~near, -torch.inf)
            attention = logits.flatten(-2).softmax(-1).mean(1).unflatten(-1, k.shape[1:3])
            yield torch.einsum('nijkl,ndkl->ndij', attention, values)


def encoder(first: nn.Module) -> nn.Sequential:
    return nn.Sequential(first, Residual1x1(), Residual1x1())


def mirror_border(x: Tensor) -> Tensor:
    """(n, C, h, w) with a border of one cell, mirrored, or repeated where a side is one cell."""
    for side, border in ((-2, (0, 0, 1, 1)), (-1, (1, 1, 0, 0))):
        x = pad(x, border, mode='reflect' if x.shape[side] > 1 else 'replicate')
    return x


def reach(count: int, cells: int, *, device: torch.device) -> Tensor:
    """Which of `cells` each of `count` places along a side looks at, (count, cells) bool."""
    centres = (torch.arange(count, device=device) + 0.5)[:, None] / count
    edges = torch.arange(cells, device=device)[None] / cells
    return (edges + 1 / cells > centres - WINDOW) & (edges < centres + WINDOW)
