"""SCGA of RADSeg, https://arxiv.org/abs/2511.19704: patches of all windows share their features.

Shapes: B windows of one image, D joint channels, (h, w) the patch grid of the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.trunk import Method, Trunk, build_method, method_name
from mmseg_siglip.models.backbones.vision_trunk import patch_grid
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.models.dense.scra import SHARPNESS
from mmseg_siglip.models.dense.similarity import Similarity
from mmseg_siglip.models.windows.splice import splice
from mmseg_siglip.registry import DENSE_METHODS


@DENSE_METHODS.register_module(name='scga')
class SCGA(DenseMethod):
    """softmax(10 (S - mean S), negatives left out) f, f the features of a method on the patch grid
    of the whole image, S their cosines.

    Where windows overlap f is their mean, see `splice`. The mean of S is one image's; in the
    published code it is the batch's.

    Args:
        method: What gives features of each window. It sees one window at a time, and its cells are
            patches.

    Raises:
        ValueError: It is another kind.
    """

    scope = 'image'
    gives = 'features'
    whole = True

    def __init__(self, *, method: str | Mapping | Method = 'scra') -> None:
        super().__init__()
        host = build_method(method)
        if host.scope != 'window' or host.gives == 'cosines' or host.scores:
            raise ValueError(
                'method: expected one that sees one window at a time and gives features, without '
                f'scores of its own, found {method_name(host)!r}'
            )
        self.host = host
        self.residual, self.ffn, self.reads = host.residual, host.ffn, host.reads
        self.sites, self.normalise = host.sites, host.normalise
        self.uses_regions = host.uses_regions

    @property
    def prepares(self) -> bool:
        return self.host.prepares

    def prepare(self, pixels: Tensor) -> Any:
        return self.host.prepare(pixels)

    def check(self, encoder: VisionLanguageBackbone) -> None:
        self.host.check(encoder)

    def forward(self, trunk: Trunk) -> Tensor:
        encoder = trunk.encoder
        maps = torch.cat([encoder.features_of(part, self.host) for part in trunk.parts()])
        grid, own = (
            patch_grid(size, encoder.patch_size, encoder.image_size)
            for size in (trunk.extent, tuple(trunk.images.shape[-2:]))
        )
        if tuple(maps.shape[-2:]) != own:
            raise ValueError(
                f'{method_name(self.host)!r}: expected a cell for each patch, {own}, found '
                f'{tuple(maps.shape[-2:])}'
            )
        whole = splice(maps, trunk.boxes, encoder.patch_size, trunk.extent, grid=grid)
        cells = whole.flatten(2).transpose(1, 2)
        shared = Similarity(cells).sharpened(cells, SHARPNESS)
        return shared.transpose(1, 2).unflatten(2, grid)
