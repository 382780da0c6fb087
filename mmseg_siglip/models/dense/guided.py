"""The core of methods with a guide: y = W_o A up(W_v x + b_v) + b_o, A by the guide's features.

ProxyCLIP, https://arxiv.org/abs/2408.04883, put it first. A is shared by all heads, and rows of A
sum to 1. Shapes: B windows, encoder's grid (h, w) and N = P + h*w tokens, guide's grid (g_h, g_w)
and M = g_h * g_w cells, C channels of the encoder, G of the guide, H heads, d per head, D joint
channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from mmseg_siglip.models.backbones.block import merge_heads, split_heads
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.backbones.vision_trunk import patch_grid
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.models.dense.spans import spanned_pixels
from mmseg_siglip.models.finite import require_finite
from mmseg_siglip.models.guides import Guide, build_guide
from mmseg_siglip.models.windows.splice import splice
from mmseg_siglip.precision import autocast

GUIDE = dict(type='DINOGuide', pretrained='facebook/dino-vitb8')


class Guided(DenseMethod):
    """The last attention by what a guide sees, on the guide's grid, without residual and FFN.

    Args:
        guide: A guide's name, its configuration, a checkpoint, or itself; see `build_guide`.

    Attributes:
        guide_site: What is read of a guide that is given by a checkpoint.
    """

    uses_guide = True
    guide_site = 'tokens'
    reads = 'v'
    gives = 'features'

    def __init__(self, guide: str | Mapping | nn.Module) -> None:
        super().__init__()
        self.guide = build_guide(guide, site=self.guide_site)

    def look(self, trunk: Trunk) -> Tokens:
        """Unit features of what the encoder's grid spans, (B, M, G) float32.

        Raises:
            NotFinite: The guide gives what is no number.
        """
        return look(self.guide, spanned_pixels(trunk), trunk.surroundings.batch)

    def attend(
        self, trunk: Trunk, grid: tuple[int, int], mix: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """What the last attention gives for the cells of a grid, (B, M, C).

        Args:
            trunk: The windows.
            grid: (g_h, g_w), that of the guide.
            mix: Values on it, heads side by side (B, M, C) float32, to the same shape.
        """
        maps, heads = values_of(trunk)
        with autocast('fp32', maps.device):
            mixed = mix(resized(maps, grid).flatten(2).transpose(1, 2))
        return trunk.last.out(split_heads(mixed, heads))


def values_of(trunk: Trunk) -> tuple[Tensor, int]:
    """Values of the last attention, heads side by side, (B, C, h, w) float32, and H."""
    values = trunk.last.qkv()[2][:, :, trunk.prefix :]
    return Tokens(merge_heads(values).float(), trunk.grid).map, values.shape[1]


def pictured(maps: Tensor, trunk: Trunk) -> Tensor:
    """Maps of all windows of a picture (n, C, g_h, g_w) as one (1, C, h_s, w_s), which spans the
    encoder's patches of the picture: a whole number of cells to a patch's side, as many as come
    near the windows' own and divide it."""
    patch, wanted = trunk.encoder.patch_size, round(maps.shape[-1] / trunk.grid[1])
    finer = max(n for n in range(1, max(1, wanted) + 1) if patch % n == 0)
    maps = resized(maps, tuple(finer * n for n in trunk.grid))
    grid = patch_grid(trunk.extent, patch, trunk.encoder.image_size)
    grid = tuple(finer * n for n in grid)
    return splice(maps, trunk.boxes, patch // finer, trunk.extent, grid=grid)


def look(guide: Guide, pixels: Tensor, batch: int | None = None) -> Tokens:
    """A guide's unit features of pictures (B, 3, H, W), (B, M, G) float32, `batch` at a time.

    Raises:
        ValueError: The guide gives what is no number; see `require_finite`.
    """
    parts = []
    for part in pixels.split(batch or len(pixels)):
        maps = guide(part).float()
        require_finite(type(guide).__name__, maps, later=True)
        parts.append(normalize(maps.flatten(2).transpose(1, 2), dim=-1))
    return Tokens(torch.cat(parts), tuple(maps.shape[-2:]))


def resized(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, C, h, w) on a grid, bilinearly."""
    same = tuple(maps.shape[-2:]) == grid
    return maps if same else interpolate(maps, size=grid, mode='bilinear')
