"""SAM 3 and a dense method together: the things that words find vote, the rest stays dense.

Shapes: B images, Q query words, M regions, outputs of (H, W) pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmseg_siglip.models.postprocessors.context import Context
from mmseg_siglip.models.postprocessors.mask_labels import ORDERS, fuse, paint_rank, sums, winners
from mmseg_siglip.models.postprocessors.sam_proposals import word_of
from mmseg_siglip.models.sam.proposals import Proposals
from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class SAM3Vote(BaseModule):
    """Give the pixels of each of SAM 3's regions its word; the dense scores decide all others.

    A method of ours, published nowhere: SAM 3 knows things by name and outline, but may find none,
    where a dense method always has an opinion, on grounds and stuff, too. Of a class's synonyms,
    the one that the dense scores prefer under a region gets its vote; see `fuse`.

    Args:
        regions: Config of `SAM3Regions`.
        order: Which of several regions counts at a pixel: ``score`` (of about equal ones the
            smallest), ``small_on_top``, ``large_on_top``.
        alpha: Weight of regions against the dense prediction; 0 leaves it as it is.

    Raises:
        ValueError: The order is unknown or the weight out of range.
    """

    supervised = True

    def __init__(self, regions: Mapping, *, order: str = 'score', alpha: float = 1.0) -> None:
        super().__init__()
        if order not in ORDERS:
            raise ValueError(f'SAM3Vote: expected order {", ".join(ORDERS)}, found {order!r}')
        if not 0 <= alpha <= 1:
            raise ValueError(f'SAM3Vote: expected alpha in [0, 1], found {alpha}')
        self.regions = MODELS.build(regions)
        self.order, self.alpha = order, alpha

    @torch.no_grad()
    def forward(self, images: Tensor, logits: Tensor, context: Context) -> Tensor:
        """Refine cosines `logits` (B, Q, H, W); `images`, normalised for the encoder, are not
        used."""
        owners, refined = context.query_to_class, []
        for dense, pixels in zip(logits, context.pixels, strict=True):
            found = self.regions(pixels, words=context.words, query_to_class=owners)
            refined.append(self._vote(dense, found, owners))
        return torch.stack(refined)

    def _vote(self, logits: Tensor, found: Proposals, owners: tuple[int, ...]) -> Tensor:
        """Cosines (Q, H, W) of an image under its regions."""
        if not len(found):
            return logits
        size = tuple(logits.shape[-2:])
        under = sums((masks for _, masks in found.masks(size)), logits, owners)
        rank = paint_rank(self.order, found.scores, under.area)
        top = winners(found.masks(size), rank, size)
        query = word_of(found.labels, under.means, owners)
        trust = torch.ones_like(found.scores)
        return fuse(logits, top, query, under.means, trust, self.alpha)
