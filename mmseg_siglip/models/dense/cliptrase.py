"""CLIPtrase, https://arxiv.org/abs/2407.08268.

Shapes: B images, H heads, N tokens, grid (h, w) of patches of p x p pixels, n = h*w, Q words, K
clusters.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.block import attend, merge_heads
from mmseg_siglip.models.backbones.planes import Planes
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.cluster_pixels import (
    cluster_map,
    in_rows,
    mean_scores,
    shares_of,
)
from mmseg_siglip.models.dense.clusters import dbscan, neighbour_graph
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.models.labelling import owners
from mmseg_siglip.models.windows.stitch import enlarged
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import DENSE_METHODS

CLUSTERS = MappingProxyType(
    {
        224: MappingProxyType(dict(short_side=224, eps=0.7, least=3)),
        336: MappingProxyType(dict(short_side=336, eps=1.1, least=7)),
    }
)
VARIANTS = MappingProxyType(
    dict(
        voc20=MappingProxyType(dict(prior=True)),
        detectron=MappingProxyType(dict(eps=1.1, least=7, vote='scores')),
    )
)
"""Settings for CLIP B/16, https://github.com/leaves162/CLIPtrase: by the side of a square image, of
one data set beside them, and of the code that runs in Detectron, for every size. Its figures are of
images cut to a square, with labels cut likewise: no other table has such. For the reader and
parity: no protocol takes them."""


@DENSE_METHODS.register_module(name='cliptrase')
class CLIPtrase(DenseMethod):
    """softmax(q qᵀ / √d) v + softmax(k kᵀ / √d) v + softmax(v vᵀ / √d) v, residual and FFN; then
    clusters of patches vote on their words.

    Patches cluster by how they correlate with all others in the block before the last. Each pixel
    joins the cluster whose mean correlation is highest there, noise too, and all pixels of one take
    the class that most of them have. A window votes on its own pixels; the shares of its votes are
    what windows are merged by. Whole images are what was published.

    Without CLS, what patches have in common is the mean of each column instead of the row of CLS,
    which is neither published nor measured.

    Args:
        vote: Whether clusters vote. Then the method gives shares of votes instead of tokens, for
            each of a window's h*p by w*p pixels. With ``'scores'`` it gives the mean cosines of a
            cluster's pixels instead, as the published code does in Detectron.
        prior: Whether a word is the likelier, the likelier it is by the whole image's vector, as
            published for VOC20: cosines of pixels and image are added up, the logarithms of what
            softmaxes of both multiply to.
        eps: Distance of neighbours; by default .05 √(h w), which gives both published ones to
            within .05.
        least: Neighbours of a cluster's core, itself among them; by default h w / 64, at least 2,
            which gives both published ones.
        parity: Words vote, as in the published code, instead of classes. With `prior` cosines are
            multiplied, so that two negative ones speak for a word, and the image's are those of
            CLS behind this last block instead of the encoder's own.

    Raises:
        ValueError: A number is out of range, or there is a `prior` without a vote.
    """

    residual, ffn = True, True

    def __init__(
        self,
        *,
        vote: bool | Literal['scores'] = True,
        prior: bool = False,
        eps: float | None = None,
        least: int | None = None,
        parity: bool = False,
    ) -> None:
        super().__init__()
        if eps is not None and eps <= 0 or least is not None and least < 1:
            raise ValueError(
                f'cliptrase: expected eps above 0 and least of at least 1, found {eps} and {least}'
            )
        if vote not in (True, False, 'scores'):
            raise ValueError(f"cliptrase: expected vote True, False or 'scores', found {vote!r}")
        if prior and not vote:
            raise ValueError('cliptrase: expected prior with a vote, which it is for, found none')
        self.vote, self.prior, self.eps, self.least = vote, prior, eps, least
        self.parity, self.pools = parity, prior
        self.gives = 'cosines' if vote else 'tokens'

    def check(self, encoder: VisionLanguageBackbone) -> None:
        if self.vote and encoder.num_layers < 2:
            raise ValueError(
                'cliptrase: expected an encoder of at least 2 blocks to cluster by the one before '
                'the last, found 1; without vote one is enough'
            )
        if self.prior and self.parity and (not encoder.num_prefix or encoder.pools_by_attention):
            raise ValueError(
                'cliptrase: expected an encoder whose CLS token is its own vector, for prior with '
                f'parity, found a {type(encoder).__name__}; without parity any will do'
            )

    def mix(self, q: Tensor, k: Tensor, v: Tensor, trunk: Trunk) -> Tensor:
        return attend(q, q, v) + attend(k, k, v) + attend(v, v, v)

    def forward(self, trunk: Trunk) -> Tokens | Tensor | list[Planes]:
        if not self.vote:
            return super().forward(trunk)
        trunk.open([-2])
        features = super().forward(trunk)
        with torch.no_grad(), autocast('fp32', trunk.images.device):
            cosines = trunk.cosines(features)
            if self.prior:
                cosines = self.likelier(cosines, features, trunk)
            owner = range(cosines.shape[1]) if self.parity else trunk.query_to_class
            owner = owners(owner, cosines.device)
            return [
                self.merged(one, points, owner, trunk.encoder.patch_size)
                for one, points in zip(cosines, correlation(trunk), strict=True)
            ]

    def likelier(self, cosines: Tensor, features: Tokens | Tensor, trunk: Trunk) -> Tensor:
        """Cosines (B, Q, h, w) and those of the whole image together, see `prior`."""
        if not self.parity:
            return cosines + trunk.cosines(trunk.pooled[:, :, None, None])
        return cosines * trunk.cosines(Tokens(features.x[:, :1], (1, 1)))

    def clusters(self, points: Tensor) -> Tensor:
        """(n,) int64 of a correlation (n, n), see `dbscan`."""
        eps = 0.05 * len(points) ** 0.5 if self.eps is None else self.eps
        least = max(2, round(len(points) / 64)) if self.least is None else self.least
        return dbscan(neighbour_graph(points, eps), least)

    def merged(self, cosines: Tensor, points: Tensor, owner: Tensor, patch: int) -> Planes:
        """What part of its cluster's pixels has a word's class, by pixel, or their mean cosines.

        Args:
            cosines: (Q, h, w).
            points: (n, n), `correlation`.
            owner: (Q,), class of each word.
            patch: p.

        Returns:
            Of (Q, h*p, w*p). Without a cluster each pixel has its own.
        """
        grid = tuple(cosines.shape[-2:])
        size = tuple(side * patch for side in grid)
        clusters, pixels = self.clusters(points), enlarged(cosines, size)
        count = int(clusters.max()) + 1
        place = cluster_map(points, clusters, grid, size) if count else None
        if self.vote != 'scores':
            labels = torch.cat([owner[part.argmax(0)] for _, part in in_rows(pixels)])
            votes = torch.eye(int(owner.max()) + 1, device=labels.device)
            if count:
                votes = shares_of(labels, place, count, len(votes))
            table, place = votes.T[owner], place if count else labels
        elif count:
            table = mean_scores(pixels, place, count)
        else:
            return Planes(size, pixels.rows)
        return Planes(size, lambda first, last: table[:, place[first:last]])


def correlation(trunk: Trunk) -> Tensor:
    """How patches correlate in the block before the last, beyond what all have in common.

    The mean over heads, and over queries, keys and values, of cosines, less those with CLS, or
    without CLS the mean of each column; what is below 0 is 0.

    Returns:
        (B, n, n) float32.
    """
    parts = trunk.opened(-2)
    unit = [merge_heads(normalize(part.float(), dim=-1)) for part in parts]
    unit = torch.cat(unit, dim=-1) / (3 * parts[0].shape[1]) ** 0.5
    patches = unit[:, trunk.prefix :]
    common = unit[:, :1] if trunk.prefix else patches.mean(1, keepdim=True)
    with autocast('fp32', patches.device):
        return relu((patches - common) @ patches.transpose(1, 2))
