"""CLIPtrase, https://arxiv.org/abs/2407.08268.

Shapes: B images, H heads, N tokens, grid (h, w) of patches of p x p pixels, n = h*w, Q words, K
clusters.
"""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize, one_hot, relu

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.block import CHUNK_BYTES, attend, merge_heads
from mmseg_siglip.models.backbones.planes import Planes
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.clusters import dbscan, neighbour_graph
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.models.dense.spans import mirrored
from mmseg_siglip.models.windows.stitch import enlarged
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import DENSE_METHODS

FINER = 4
MEDIAN = 7

CLUSTERS = MappingProxyType(
    {
        224: MappingProxyType(dict(short_side=224, eps=0.7, least=3)),
        336: MappingProxyType(dict(short_side=336, eps=1.1, least=7)),
    }
)
"""Settings for CLIP B/16 by the side of a square image, https://github.com/leaves162/CLIPtrase. Its
figures are of images cut to a square, with labels cut likewise: no other table has such.
For the reader and parity: no protocol takes them."""


@DENSE_METHODS.register_module(name='cliptrase')
class CLIPtrase(DenseMethod):
    """softmax(q qᵀ / √d) v + softmax(k kᵀ / √d) v + softmax(v vᵀ / √d) v, residual and FFN; then
    clusters of patches vote on their words.

    Patches cluster by how they correlate with all others in the block before the last. Each pixel
    joins the cluster whose mean correlation is highest there, noise too, and all pixels of one take
    the class that most of them have. A window votes on its own pixels; the shares of its votes are
    what windows are merged by. Whole images are what was published.

    Without CLS, what patches have in common is the mean of each column instead of the row of CLS,
    which is neither published nor measured. The published list of VOC20, whose scores are
    multiplied by those of CLS, is left out.

    Args:
        vote: Whether clusters vote. Then the method gives shares of votes instead of tokens, for
            each of a window's h*p by w*p pixels.
        eps: Distance of neighbours; by default .05 √(h w), which gives both published ones to
            within .05.
        least: Neighbours of a cluster's core, itself among them; by default h w / 64, at least 2,
            which gives both published ones.
        parity: Words vote, as in the published code, instead of classes.

    Raises:
        ValueError: A number is out of range.
    """

    residual, ffn = True, True

    def __init__(
        self,
        *,
        vote: bool = True,
        eps: float | None = None,
        least: int | None = None,
        parity: bool = False,
    ) -> None:
        super().__init__()
        if eps is not None and eps <= 0 or least is not None and least < 1:
            raise ValueError(
                f'cliptrase: expected eps above 0 and least of at least 1, found {eps} and {least}'
            )
        self.vote, self.eps, self.least, self.parity = vote, eps, least, parity
        self.gives = 'cosines' if vote else 'tokens'

    def check(self, encoder: VisionLanguageBackbone) -> None:
        if self.vote and encoder.num_layers < 2:
            raise ValueError(
                'cliptrase: expected an encoder of at least 2 blocks to cluster by the one before '
                'the last, found 1; without vote one is enough'
            )

    def mix(self, q: Tensor, k: Tensor, v: Tensor, trunk: Trunk) -> Tensor:
        return attend(q, q, v) + attend(k, k, v) + attend(v, v, v)

    def forward(self, trunk: Trunk) -> Tokens | Tensor | list[Planes]:
        if not self.vote:
            return super().forward(trunk)
        trunk.keep([max(len(trunk.blocks) - 3, 0)])
        features = super().forward(trunk)
        with torch.no_grad(), autocast('fp32', trunk.images.device):
            cosines = trunk.cosines(features)
            owner = range(cosines.shape[1]) if self.parity else trunk.query_to_class
            owner = torch.tensor(owner, device=cosines.device)
            return [
                self.shares(one, points, owner, trunk.encoder.patch_size)
                for one, points in zip(cosines, correlation(trunk), strict=True)
            ]

    def clusters(self, points: Tensor) -> Tensor:
        """(n,) int64 of a correlation (n, n), see `dbscan`."""
        eps = 0.05 * len(points) ** 0.5 if self.eps is None else self.eps
        least = max(2, round(len(points) / 64)) if self.least is None else self.least
        return dbscan(neighbour_graph(points, eps), least)

    def shares(self, cosines: Tensor, points: Tensor, owner: Tensor, patch: int) -> Planes:
        """What part of its cluster's pixels has a word's class, by pixel.

        Args:
            cosines: (Q, h, w).
            points: (n, n), `correlation`.
            owner: (Q,), class of each word.
            patch: p.

        Returns:
            Of (Q, h*p, w*p) in [0, 1].
        """
        grid = tuple(cosines.shape[-2:])
        size = tuple(side * patch for side in grid)
        place = owner[nearest(cosines, size)]
        clusters = self.clusters(points)
        count, classes = int(clusters.max()) + 1, int(owner.max()) + 1
        votes = torch.eye(classes, device=place.device)
        if count:
            labels, place = place, cluster_map(points, clusters, grid, size)
            votes = torch.bincount((place * classes + labels).flatten(), minlength=count * classes)
            votes = votes.view(count, classes)
        part = (votes / votes.sum(1, keepdim=True).clamp(min=1)).T[owner]
        return Planes(size, lambda first, last: part[:, place[first:last]])


def nearest(cosines: Tensor, size: tuple[int, int]) -> Tensor:
    """The word of each pixel, (H, W) int64, by cosines (Q, h, w), some rows at a time."""
    pixels, (height, width) = enlarged(cosines, size), size
    step = max(1, CHUNK_BYTES // (4 * len(cosines) * width))
    parts = [
        pixels.rows(first, min(first + step, height)).argmax(0) for first in range(0, height, step)
    ]
    return torch.cat(parts)


def correlation(trunk: Trunk) -> Tensor:
    """How patches correlate in the block before the last, beyond what all have in common.

    The mean over heads, and over queries, keys and values, of cosines, less those with CLS, or
    without CLS the mean of each column; what is below 0 is 0.

    Returns:
        (B, n, n) float32.
    """
    parts = trunk.qkv(-2, trunk.input(-2))
    unit = [merge_heads(normalize(part.float(), dim=-1)) for part in parts]
    unit = torch.cat(unit, dim=-1) / (3 * parts[0].shape[1]) ** 0.5
    patches = unit[:, trunk.prefix :]
    common = unit[:, :1] if trunk.prefix else patches.mean(1, keepdim=True)
    with autocast('fp32', patches.device):
        return relu((patches - common) @ patches.transpose(1, 2))


def cluster_map(
    points: Tensor, clusters: Tensor, grid: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """The cluster of each pixel, (H, W) int64, by where its mean row is highest.

    Args:
        points: (n, n).
        clusters: (n,), of which K are no noise.
        grid: (h, w).
        size: (H, W).
    """
    member = one_hot(clusters + 1)[:, 1:].to(points.dtype)
    means = (member.T @ points) / member.sum(0)[:, None]
    finer = interpolate(means.unflatten(1, grid)[None], scale_factor=FINER, mode='bilinear')
    best, place = means.new_full(size, -1.0), clusters.new_zeros(size)
    for index, plane in enumerate(finer[0]):
        plane = interpolate(median(plane)[None, None], size=size, mode='bilinear')[0, 0]
        better = plane > best
        best, place = torch.where(better, plane, best), torch.where(better, index, place)
    return place


def median(plane: Tensor) -> Tensor:
    """The middle one of 7 x 7 values around each of a plane (h, w), whose border is mirrored."""
    h, w = plane.shape
    reach = MEDIAN // 2
    rows, columns = (mirrored(side, reach, plane.device, twice=True) for side in (h, w))
    around = plane[rows][:, columns].unfold(0, MEDIAN, 1).unfold(1, MEDIAN, 1)
    return around.flatten(2).median(2).values
