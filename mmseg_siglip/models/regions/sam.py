"""Regions by Segment Anything 1 and 2."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmseg_siglip.models.guides import Frozen
from mmseg_siglip.models.postprocessors.mask_labels import ORDERS, areas, paint_rank, winners
from mmseg_siglip.models.regions.proposer import RegionProposer
from mmseg_siglip.models.sam.proposals import SAMPointGrid
from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class SAMRegions(RegionProposer):
    """The masks of a grid of clicks, painted over one another.

    The defaults are CorrCLIP's (https://arxiv.org/abs/2411.10086) with SAM 2 Hiera-L. TextRegion
    (https://arxiv.org/abs/2505.23769) takes 16 points a side (36 on Cityscapes), both least values
    0.6, `max_iou` 0.9, three masks a click, and overlapping ones.

    Args:
        sam: Configuration of a `SAMAdapter`.
        points_per_side: See `SAMPointGrid`, as all but the next two.
        min_iou: Least predicted IoU.
        min_stability: Least stability.
        max_iou: Of two masks that overlap more, the one of the lower predicted IoU goes.
        multimask: Three masks a click instead of one.
        precision: Number format of SAM.
        order: Which of several masks counts at a pixel, see `paint_rank`.
        overlap: Give the masks as they are, (M, H, W) bool by falling predicted IoU, instead of one
            label map.

    Raises:
        ValueError: A value is out of range or a name unknown.
    """

    def __init__(
        self,
        sam: Mapping,
        *,
        points_per_side: int = 8,
        min_iou: float = 0.4,
        min_stability: float = 0.4,
        max_iou: float = 0.7,
        multimask: bool = False,
        precision: str = 'fp32',
        order: str = 'large_on_top',
        overlap: bool = False,
    ) -> None:
        super().__init__()
        if order not in ORDERS:
            raise ValueError(f'SAMRegions: expected order {", ".join(ORDERS)}, found {order!r}')
        clicks = SAMPointGrid(
            sam,
            points_per_side=points_per_side,
            min_iou=min_iou,
            min_stability=min_stability,
            max_iou=max_iou,
            multimask=multimask,
            precision=precision,
        )
        self.clicks, self.order, self.overlap = Frozen(clicks), order, overlap

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """See `RegionProposer`; a label is the mask's place in rising order of area, or as `order`
        says, plus one."""
        size = tuple(pixels.shape[-2:])
        found = self.clicks(pixels)
        if self.overlap:
            return found.all_masks(size)
        if not len(found):
            return pixels.new_zeros(size, dtype=torch.long)
        rank = paint_rank(self.order, found.scores, areas(found.masks(size)))
        top = winners(found.masks(size), rank, size)
        return torch.where(top >= 0, rank[top.clamp(min=0)] + 1, 0)
