"""Dense methods that show what the contract allows. With a registration, each would be a file of
`mmseg_siglip.models.dense`.

Shapes: B windows, M cells of the finer grid, H heads, d per head, G channels of the guide.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, normalize

from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense import DenseMethod
from mmseg_siglip.models.guides import Frozen


class Half(DenseMethod):
    """Each patch four times, on a grid twice as fine."""

    sites = ('trunk',)

    def forward(self, trunk: Trunk) -> Tokens:
        tokens = Tokens(trunk.output(-1), trunk.grid, trunk.prefix)
        fine = tokens.map.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return Tokens(fine.flatten(2).transpose(1, 2), tuple(2 * n for n in trunk.grid))


class ToyGuide(DenseMethod):
    """ProxyCLIP in small: what looks alike to a second model shares its values, on a grid twice as
    fine as the encoder's. softmax(f fᵀ / 0.1) v, f its features less their mean over the whole
    image.

    Args:
        seed: Of the guide's weights.
        scope: ``image``: the cells of all windows of an image share their values.
    """

    reads = 'v'
    sites = ('trunk',)

    def __init__(self, seed: int = 0, scope: str = 'window') -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Dropout())
        self.guide, self.scope = Frozen(model), scope

    def prepare(self, pixels: Tensor) -> Tensor:
        """(3, H, W) to the mean feature, (G,)."""
        return self.guide(pixels[None]).mean((0, 2, 3))

    def forward(self, trunk: Trunk) -> Tokens:
        block, grid = trunk.blocks[-1], tuple(2 * n for n in trunk.grid)
        features = adaptive_avg_pool2d(self.guide(trunk.pixels), grid)
        features = features - torch.stack(trunk.prepared)[:, :, None, None]
        features = normalize(features.flatten(2), dim=1).transpose(1, 2)  # (B, M, G)
        values = trunk.qkv(-1, trunk.input(-1))[2][:, :, trunk.prefix :]  # (B, H, h*w, d)
        batch, heads, _, width = values.shape
        values = values.transpose(2, 3).flatten(1, 2).unflatten(2, trunk.grid)
        values = interpolate(values, size=grid, mode='bilinear').flatten(2).transpose(1, 2)
        if self.scope == 'image':
            features, values = features.flatten(0, 1)[None], values.flatten(0, 1)[None]
        weights = (features @ features.transpose(1, 2) / 0.1).softmax(-1)
        mixed = (weights @ values).reshape(batch, -1, heads, width).transpose(1, 2)
        return Tokens(block.out(mixed), grid)
