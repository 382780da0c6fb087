"""SAM proposes, dense features classify: SCLIP with sharp outlines.

Shapes: B images, Q query words, C classes, M masks, D joint channels, outputs of (H, W) pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmseg_siglip.models.labelling import owners
from mmseg_siglip.models.postprocessors.context import Context
from mmseg_siglip.models.postprocessors.mask_labels import (
    LABELS,
    ORDERS,
    MaskSums,
    choose,
    fuse,
    paint_rank,
    pooled_cosines,
    sums,
    winners,
    withdraw,
)
from mmseg_siglip.models.sam.proposals import Proposals
from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class SAMProposals(BaseModule):
    """Give every mask that SAM finds one class, and let its pixels have it.

    Pixels that no mask covers, or one whose pixels disagree, keep the dense prediction.

    Args:
        proposer: Config of what finds masks: `SAMPointGrid`, clicks on a grid;
            `SegmentAnythingGrid`, the same by the package segment-anything; `SAMComponents`, the
            dense prediction's own blobs, outlined, each of which keeps its class; `SAM3Regions`,
            what words found, likewise.
        label: How a mask gets its class: the one of most of its pixels (``vote``), of the highest
            mean cosine (``mean_logit``), or nearest to its mean feature (``pooled_feature``).
        order: Which of several masks counts at a pixel: ``score`` (of about equal ones the
            smallest), ``small_on_top``, ``large_on_top``.
        alpha: Weight of masks against the dense prediction; 0 leaves it as it is.
        min_purity: Least part of a mask's pixels whose dense class is the mask's.
        min_margin: Least lead of a mask's class over the next one, in scaled logits; with ``vote``
            in parts of its pixels.
        min_area: Smallest mask, as a part of the image.
        trim: Whether pixels that the outline of their own blob leaves out, and no other mask
            covers, lose that blob's class instead (`SAMComponents` alone).

    Raises:
        ValueError: A name is unknown or a part out of range.
    """

    def __init__(
        self,
        proposer: Mapping,
        *,
        label: str = 'vote',
        order: str = 'score',
        alpha: float = 1.0,
        min_purity: float = 0.5,
        min_margin: float = 0.0,
        min_area: float = 0.0,
        trim: bool = False,
    ) -> None:
        super().__init__()
        for name, value, known in (('label', label, LABELS), ('order', order, ORDERS)):
            if value not in known:
                raise ValueError(
                    f'SAMProposals: expected {name} {", ".join(known)}, found {value!r}'
                )
        for name, value in (('alpha', alpha), ('min_purity', min_purity), ('min_area', min_area)):
            if not 0 <= value <= 1:
                raise ValueError(f'SAMProposals: expected {name} in [0, 1], found {value}')
        self.proposer = MODELS.build(proposer)
        self.label, self.order, self.alpha = label, order, alpha
        self.needs_features = label == 'pooled_feature'
        self.min_purity, self.min_margin, self.min_area = min_purity, min_margin, min_area
        self.trim = trim

    @torch.no_grad()
    def forward(self, images: Tensor, logits: Tensor, context: Context) -> Tensor:
        """Refine cosines `logits` (B, Q, H, W); `images`, normalised for the encoder, are not
        used."""
        refined = []
        for index, dense in enumerate(logits):
            proposals = self.proposer(
                context.pixels[index],
                logits=dense,
                query_to_class=context.query_to_class,
                logit_scale=context.logit_scale,
                words=context.words,
            )
            refined.append(self._fused(dense, proposals, context, index))
        return torch.stack(refined)

    def _fused(self, logits: Tensor, proposals: Proposals, context: Context, index: int) -> Tensor:
        """Cosines (Q, H, W) of image `index` under its masks."""
        if not len(proposals):
            return logits
        size, owners = tuple(logits.shape[-2:]), context.query_to_class
        found = sums((masks for _, masks in proposals.masks(size)), logits, owners)
        if proposals.labels is not None:
            labels, margin = proposals.labels, torch.full_like(proposals.scores, torch.inf)
        else:
            labels, margin = self._labels(proposals, size, found, context, index)
        purity = found.votes.gather(1, labels[:, None])[:, 0] / found.area.clamp(min=1)
        kept = (found.area > 0) & (found.area >= self.min_area * size[0] * size[1])
        kept &= (purity >= self.min_purity) & (margin >= self.min_margin)
        confidence = (proposals.scores * purity).clamp(0, 1)
        taken = kept.nonzero()[:, 0]
        rank = paint_rank(self.order, confidence[taken], found.area[taken])
        top = winners(proposals.take(taken).masks(size), rank, size)
        query = word_of(labels, found.means, owners)
        if self.trim and proposals.origins is not None:
            origins = proposals.origins
            left = torch.where(kept[origins] & (top < 0), origins, -1)
            logits = withdraw(logits, left, labels, found.means, confidence, self.alpha, owners)
        means, confidence = found.means[taken], confidence[taken]
        return fuse(logits, top, query[taken], means, confidence, self.alpha)

    def _labels(
        self,
        proposals: Proposals,
        size: tuple[int, int],
        found: MaskSums,
        context: Context,
        index: int,
    ) -> tuple[Tensor, Tensor]:
        """Class of each mask, and its lead."""
        if self.label == 'vote':
            shares = found.votes / found.area.clamp(min=1)[:, None]
            return choose(shares, range(shares.shape[1]))
        cosines = found.means
        if self.label == 'pooled_feature':
            masks = (masks for _, masks in proposals.masks(size))
            cosines = pooled_cosines(masks, context.features[index], context.text)
        return choose(cosines * context.logit_scale, context.query_to_class)


def word_of(labels: Tensor, means: Tensor, query_to_class: Sequence[int]) -> Tensor:
    """(M,) the word of each mask's class with the highest mean cosine."""
    owner = owners(query_to_class, means.device)
    return means.masked_fill(owner != labels[:, None], -torch.inf).argmax(1)
