"""Every region gets one class. Shapes: C classes, R regions, an output of (H, W) pixels."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mmseg_siglip.models.labelling import Labels
from mmseg_siglip.models.postprocessors.context import Context
from mmseg_siglip.models.postprocessors.label_step import LabelStep
from mmseg_siglip.models.postprocessors.mask_labels import label_map
from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class RegionVote(LabelStep):
    """CorrCLIP's map correction (https://arxiv.org/abs/2411.10086): all pixels of a region take the
    class that most of them have, of equals the first.

    Pixels whose class changes get as score the mean score of those that voted for it.

    Args:
        parity: As published, the smallest label present counts as "no region", even where every
            pixel lies in one; by default that is label 0 alone.
    """

    def __init__(self, parity: bool = False) -> None:
        super().__init__()
        self.parity = parity

    def forward(self, found: Labels, context: Context) -> Labels:
        (regions,) = context.regions
        names, region = label_map(regions).unique(return_inverse=True)
        voted = vote(found.labels, region, len(names), max(context.query_to_class) + 1)
        counts = names > names[0] if self.parity else names > 0
        labels = torch.where(counts[region], voted[region], found.labels)
        scores = found.scores
        if scores is not None:
            agree = (found.labels == voted[region]).to(scores.dtype).flatten()
            totals = scores.new_zeros(2, len(names))
            totals.index_add_(1, region.flatten(), torch.stack([agree, agree * scores.flatten()]))
            mean = totals[1] / totals[0]
            scores = torch.where(labels == found.labels, scores, mean[region])
        return replace(found, labels=labels, scores=scores)


def vote(labels: Tensor, region: Tensor, count: int, classes: int) -> Tensor:
    """The most frequent of so many classes in each of `count` regions, of equals the smallest:
    (R,) of labels (H, W) and the index of each pixel's region (H, W)."""
    votes = labels.new_zeros(count * classes)
    votes.index_add_(0, (region * classes + labels).flatten(), torch.ones_like(labels).flatten())
    return votes.unflatten(0, (count, classes)).argmax(1)
