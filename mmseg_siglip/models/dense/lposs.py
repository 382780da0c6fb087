"""LPOSS, https://arxiv.org/abs/2503.19777.

Shapes: n windows of one image, grid (h, w) of the guide, N = n*h*w nodes, G channels of the guide,
D joint channels, Q words.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mmseg_siglip.device import at_once
from mmseg_siglip.models.backbones.block import CHUNK_BYTES
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.guided import Guided, look, resized
from mmseg_siglip.models.dense.spans import spanned_pixels
from mmseg_siglip.models.postprocessors.propagation import PixelPropagation, conjugate_gradients
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import DENSE_METHODS

GUIDE = MappingProxyType(dict(type='DINOGuide', pretrained='facebook/dino-vitb16', site='v'))
SLIDE = dict(short_side=448, crop_size=224, stride=112, prob_thd=0.0, area_thd=None)
PUBLISHED = dict.fromkeys(
    (
        'voc21',
        'voc20',
        'context60',
        'context59',
        'coco_object',
        'coco_stuff',
        'cityscapes',
        'ade20k',
    ),
    SLIDE,
)
"""The same for all; on open_clip's ``ViT-B-16:laion2b_s34b_b88k``, with ``position_offset=0``."""


@DENSE_METHODS.register_module(name='lposs')
class LPOSS(Guided):
    """Words' scores spread over all patches of an image, by how alike they are to a second model
    and how near one another.

    First scores are cosines of MaskCLIP's features as its authors' code has them: in the last block
    each patch keeps its own value, with the residual and the feed-forward part. On site ``head``
    that is the exact readout of the trunk. Each node has an edge to its `neighbours` of the highest
    cosine s in the guide, itself included, of weight max(s, 0)³ exp(-b r), r their distance in
    pixels; a pair that chose one another counts twice. With W the normalised weights, (I - a W) x =
    y is solved by `steps` of conjugate gradients, in float64 and for all words at once.

    CLIP's positions are resampled without an offset there, ``position_offset=0``.

    Args:
        guide: A guide, see `build_guide`; LPOSS reads ``v`` of DINO B/16.
        neighbours: k, or all nodes where there are fewer.
        power: Of the cosine.
        falloff: b, per pixel.
        alpha: a.
        steps: Of conjugate gradients.
        parity: As published, windows are filled up with black to whole patches, instead of the
            encoder's mean colour.

    Raises:
        ValueError: There is no such guide, or it gives no numbers.
    """

    reads = 'v'
    guide_site = GUIDE['site']
    gives = 'features'
    scope = 'image'
    residual = ffn = True

    def __init__(
        self,
        guide: str | Mapping | nn.Module = GUIDE,
        *,
        neighbours: int = 400,
        power: float = 3.0,
        falloff: float = 0.01,
        alpha: float = 0.95,
        steps: int = 10,
        parity: bool = False,
    ) -> None:
        super().__init__(guide)
        if neighbours < 1 or not 0 <= alpha < 1:
            raise ValueError(
                'lposs: expected neighbours of 1 or more and alpha in [0, 1), found '
                f'{neighbours} and {alpha}'
            )
        self.neighbours, self.power, self.falloff = neighbours, power, falloff
        self.alpha, self.steps, self.parity = alpha, steps, parity

    def mix(self, q: Tensor, k: Tensor, v: Tensor, trunk: Trunk) -> Tensor:
        return v

    def forward(self, trunk: Trunk) -> Tensor:
        seen = trunk.look(filled(trunk)) if self.parity else trunk
        nodes = look(self.guide, spanned_pixels(seen), trunk.surroundings.batch)
        trunk.notes['nodes'] = nodes
        found = (part.last.run(self) for part in seen.parts())
        maps = [seen.project(part) if isinstance(part, Tokens) else part for part in found]
        return resized(torch.cat(maps), nodes.grid)

    @torch.no_grad()
    def score(self, cosines: Tensor, features: Tensor, trunk: Trunk) -> Tensor:
        nodes = trunk.notes['nodes']
        if tuple(cosines.shape[-2:]) != nodes.grid:
            raise ValueError(
                f"lposs: expected scores of the guide's own {nodes.grid} cells, found "
                f'{tuple(cosines.shape[-2:])} cells; leave the upsampler out'
            )
        with autocast('fp32', cosines.device):
            edges = self.edges(nodes.x.flatten(0, 1), cell_centres(trunk, nodes.grid))
            y = cosines.permute(1, 0, 2, 3).flatten(1).double()
            x = conjugate_gradients(lambda x: x - self.alpha * (edges @ x.T).T, y, self.steps)
        return x.unflatten(1, (-1, *nodes.grid)).transpose(0, 1).to(cosines.dtype)

    def edges(self, nodes: Tensor, centres: Tensor) -> Tensor:
        """D^-½ W D^-½ of unit features (N, G) at (N, 2): (N, N) float64, sparse (CSR) where a
        full matrix would take more memory."""
        count, device = len(nodes), nodes.device
        k = min(self.neighbours, count)
        found = []
        step = at_once(4 * count, device, CHUNK_BYTES)
        for rows in torch.arange(count, device=device).split(step):
            cosines, others = (nodes[rows] @ nodes.T).topk(k)
            apart = (centres[rows, None] - centres[others]).square().sum(-1).sqrt()
            weights = cosines.clamp(min=0).double() ** self.power * (-self.falloff * apart).exp()
            found.append((others, weights.masked_fill(others == rows[:, None], 0)))
        others, weights = map(torch.cat, zip(*found, strict=True))
        here, there, weights = (
            torch.arange(count, device=device).repeat_interleave(k),
            others.flatten(),
            weights.flatten(),
        )
        degree = weights.new_zeros(count)
        degree = degree.index_add_(0, here, weights).index_add_(0, there, weights)
        root = torch.where(degree > 0, degree, 1.0).rsqrt()
        weights = weights * root[here] * root[there]
        pairs = torch.stack([torch.cat([here, there]), torch.cat([there, here])])
        both = torch.cat([weights, weights])
        shape = (count, count)
        with torch.sparse.check_sparse_tensor_invariants(False), warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'Sparse CSR tensor support is in beta')
            edges = torch.sparse_coo_tensor(pairs, both, shape).coalesce()
            full = 2 * edges.values().numel() > count**2
            return edges.to_dense() if full else edges.to_sparse_csr()


@DENSE_METHODS.register_module(name='lposs_plus')
class LPOSSPlus(LPOSS):
    """LPOSS, whose merged scores spread over the pixels of the image, too.

    Args:
        pixels: Arguments of `PixelPropagation`.
        options: See `LPOSS`.
    """

    def __init__(self, *, pixels: Mapping | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.refiners = nn.ModuleList([PixelPropagation(**pixels or {})])


def filled(trunk: Trunk) -> Tensor:
    """The windows filled up with black to whole patches, normalised."""
    patch, size = trunk.encoder.patch_size, trunk.images.shape[-2:]
    down, right = (-side % patch for side in size)
    pixels = pad(trunk.pixels, (0, right, 0, down))
    return trunk.encoder.from_pixels(pixels) if down or right else trunk.images


def cell_centres(trunk: Trunk, grid: tuple[int, int]) -> Tensor:
    """Centres of all windows' cells in their image, (N, 2) float64 in pixels."""
    patch = trunk.encoder.patch_size
    boxes = torch.tensor(trunk.boxes, dtype=torch.float64, device=trunk.images.device)
    y, x = (
        boxes[:, axis, None] + (torch.arange(cells).to(boxes) + 0.5) * (own * patch / cells)
        for axis, (cells, own) in enumerate(zip(grid, trunk.grid, strict=True))
    )
    shape = (len(boxes), *grid)
    return torch.stack([y[:, :, None].expand(shape), x[:, None].expand(shape)], -1).flatten(0, 2)
