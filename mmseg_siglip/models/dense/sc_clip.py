"""SC-CLIP, https://arxiv.org/abs/2411.15869: CLIP's own middle blocks say which patches are alike.

Shapes: B images, H heads, P prefix tokens, n = h*w patches, d per head, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.block import attend, merge_heads, split_heads
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.depth import scaled_block
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.models.dense.outliers import lof_outliers, repair
from mmseg_siglip.models.dense.similarity import Similarity
from mmseg_siglip.registry import DENSE_METHODS

BLOCKS = {
    12: dict(similar_block=8, post_block=3, levels=tuple(range(3, 10)), cls_weight=0.3),
    24: dict(similar_block=16, post_block=6, levels=tuple(range(8, 19)), cls_weight=0.1),
}
"""Of CLIP B/16, and of L/14 by the author (issue 5 of the repository)."""

WINDOWS = dict(short_side=336, crop_size=224, stride=112, logit_scale=40)
PUBLISHED = {
    'voc21': WINDOWS | dict(logit_scale=50, prob_thd=0.15, area_thd=0.1),
    'voc20': WINDOWS,
    'context60': WINDOWS | dict(prob_thd=0.15),
    'context59': WINDOWS,
    'coco_object': WINDOWS | dict(logit_scale=55, prob_thd=0.35),
    'coco_stuff': WINDOWS,
    'ade20k': WINDOWS,
    'cityscapes': WINDOWS | dict(short_side=560),
}
PUBLISHED_MIOU = dict(
    voc21=64.6,
    context60=36.8,
    coco_object=37.7,
    voc20=84.3,
    cityscapes=41.0,
    context59=40.1,
    ade20k=20.1,
    coco_stuff=26.6,
)
SOURCE = "https://github.com/SuleBai/SC-CLIP; its row in OV-Stitcher's table"


@DENSE_METHODS.register_module(name='sc_clip')
class SCCLIP(DenseMethod):
    """Repaired outliers, values averaged over what a middle block finds alike, two levels of them.

    Patches p in front of the last attention lose their outliers and are averaged by the cosines S
    of a middle block's. The last attention, over patches alone and without residual and FFN, mixes
    by (softmax(β (S - mean S)) + softmax(k kᵀ / √d)) / 2, once for p and once for the sum of some
    blocks' outputs; both, with a share of their CLS token, are averaged by the cosines of an early
    block's, and added up.

    The published code works on squares and single images alone: off the square it looks outliers up
    in the wrong place, below 31 patches and without an outlier it stops, and where tokens coincide
    it divides zero by zero. Here there are as many neighbours as there are patches, and tokens that
    coincide are no outliers. Where it gives a result, this is the same.

    Args:
        similar_block: Whose cosines are S; by default 8 of 12, 16 of 24, otherwise scaled.
        post_block: Whose cosines average the result; 3 of 12, 6 of 24, otherwise scaled.
        levels: Whose outputs are added up; 3 to 9 of 12, 8 to 18 of 24, otherwise scaled.
        cls_weight: Share of the CLS token: 0.3, of 24 blocks 0.1. An encoder without one, or with
            the last attention in its pooling head, adds as much of the image as its head pools it
            to each patch; unmeasured, so there it is 0 unless given.
        threshold: Cosines below it count as 0 where tokens are averaged. It is CLIP's; tokens of
            other encoders have more or less in common.
        sharpness: β.
        neighbours: See `outlier_factor`.
        contamination: See `lof_outliers`.
    """

    reads = 'kv'
    lonely = 'keep'
    floor: float | None = None

    def __init__(
        self,
        *,
        similar_block: int | None = None,
        post_block: int | None = None,
        levels: Sequence[int] | None = None,
        cls_weight: float | None = None,
        threshold: float = 0.4,
        sharpness: float = 3.0,
        neighbours: int = 30,
        contamination: float = 0.05,
    ) -> None:
        super().__init__()
        if levels is not None and not levels:
            raise ValueError('levels: expected at least one block, found none')
        self.chosen = dict(
            similar_block=similar_block, post_block=post_block, levels=levels, cls_weight=cls_weight
        )
        if cls_weight:
            self.reads, self.ffn = 'qkv', True  # a pooled vector depends on the whole last block
        self.threshold, self.sharpness = threshold, sharpness
        self.neighbours, self.contamination = neighbours, contamination

    def settings(self, count: int) -> dict:
        """The arguments that have a default of their own for each number of blocks."""
        published = BLOCKS[12] | {
            'similar_block': scaled_block(8, count),
            'post_block': scaled_block(3, count),
            'levels': tuple(range(scaled_block(3, count), scaled_block(9, count) + 1)),
        }
        given = {name: value for name, value in self.chosen.items() if value is not None}
        return BLOCKS.get(count, published) | given

    def check(self, encoder: VisionLanguageBackbone) -> None:
        if encoder.num_layers < 2:
            raise ValueError(
                f'{type(self).__name__} compares tokens of earlier blocks: expected at least 2 '
                f"blocks, found {encoder.num_layers}; 'clearclip' needs one"
            )

    def outliers(self, trunk: Trunk, patches: Tensor) -> Tensor:
        """(B, n, C), the patches in front of the last attention, to (B, n) bool."""
        return lof_outliers(patches, neighbours=self.neighbours, contamination=self.contamination)

    def blend(self, sharp: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What the last attention gives for p: (B, H, n, d) each; `sharp` is softmax(β ...) v."""
        return (sharp + attend(k, k, v)) / 2

    blend_levels = blend

    def forward(self, trunk: Trunk) -> Tokens | Tensor:
        site, grid, prefix = trunk.last, trunk.grid, trunk.prefix
        settings = self.settings(len(trunk.blocks))
        trunk.keep([settings['similar_block'], settings['post_block'], *settings['levels']])
        x = site.x.float()
        outliers = self.outliers(trunk, x[:, prefix:])

        def mended(tokens: Tensor) -> Tensor:
            return repair(tokens.float(), outliers, grid, lonely=self.lonely)

        similar = trunk.output(settings['similar_block'])[:, prefix:]
        similarity = Similarity(mended(similar), self.floor)
        post = Similarity(trunk.output(settings['post_block'])[:, prefix:])
        summed = sum(trunk.output(block).float() for block in settings['levels'])
        patches = similarity.aggregate(mended(x[:, prefix:]), self.threshold)

        inputs = (torch.cat([x[:, :prefix], patches], dim=1), summed)
        parts = [[part[:, :, prefix:] for part in site.qkv(tokens)] for tokens in inputs]
        values = torch.cat([merge_heads(v) for _, _, v in parts], dim=-1)
        sharp = similarity.sharpened(values, self.sharpness).chunk(2, dim=-1)
        sharp = [split_heads(part, parts[0][2].shape[1]) for part in sharp]
        mixed = self.blend(sharp[0], *parts[0]), self.blend_levels(sharp[1], *parts[1])
        y = sum(site.out(part).float() for part in mixed)

        weight = settings['cls_weight']
        has_cls = prefix and trunk.surroundings.site == 'trunk'
        if has_cls:
            y = y + weight * (x[:, :1] + summed[:, :1])
        y = post.aggregate(y, self.threshold)
        if self.chosen['cls_weight'] and not has_cls:
            return site.read(y, grid) + weight * trunk.head.pooled
        return site.end(y, grid)
