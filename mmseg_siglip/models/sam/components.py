"""A dense prediction's own blobs as prompts: Trident's refinement, https://arxiv.org/abs/2411.09219.

Shapes: Q query words, C classes, m blobs of a batch, a label map of (H, W), SAM's masks (h, w).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.device import to_host, upload
from mmseg_siglip.models.finite import require_finite
from mmseg_siglip.models.labelling import merge_words
from mmseg_siglip.models.sam.blobs import Blobs
from mmseg_siglip.models.sam.geometry import SAMFeatures
from mmseg_siglip.models.sam.proposals import Proposals, content, placed, stability
from mmseg_siglip.precision import PRECISIONS, autocast
from mmseg_siglip.registry import MODELS

SOFT_LIMIT = 16.0  # of a mask prompt's logits, about the range of SAM's own answers


@MODELS.register_module()
class SAMComponents(BaseModule):
    """Each blob of the dense label map asks SAM for its outline, by box, best point and soft mask.

    An outline that does not cover about the same pixels as its blob is another thing, and dropped.
    Tens of prompts instead of a thousand clicks.

    Args:
        sam: Config of a `SAMAdapter`.
        min_overlap: Least IoU of outline and blob.
        min_area: Smaller blobs, as a part of the image, do not ask.
        soft_mask: Factor on the mask prompt, the scaled lead of a blob's class over the next best;
            0 for no mask prompt.
        prompts_per_batch: Blobs decoded at a time.
        stability_offset: See `stability`.
        precision: Number format of SAM.

    Raises:
        ValueError: A count or part is out of range.
    """

    def __init__(
        self,
        sam: Mapping,
        *,
        min_overlap: float = 0.5,
        min_area: float = 0.001,
        soft_mask: float = 1.0,
        prompts_per_batch: int = 64,
        stability_offset: float = 1.0,
        precision: str = 'fp32',
    ) -> None:
        super().__init__()
        for name, value in (('min_overlap', min_overlap), ('min_area', min_area)):
            if not 0 <= value <= 1:
                raise ValueError(f'SAMComponents: expected {name} in [0, 1], found {value}')
        if prompts_per_batch < 1:
            raise ValueError(
                f'SAMComponents: expected prompts_per_batch of 1 or more, found {prompts_per_batch}'
            )
        if precision not in PRECISIONS:
            raise ValueError(f'precision: expected one of {PRECISIONS}, found {precision!r}')
        self.sam = MODELS.build(sam).requires_grad_(False)
        self.min_overlap, self.min_area, self.soft_mask = min_overlap, min_area, soft_mask
        self.prompts_per_batch, self.offset = prompts_per_batch, stability_offset
        self.precision = precision

    @torch.no_grad()
    def forward(
        self,
        pixels: Tensor,
        *,
        logits: Tensor,
        query_to_class: Sequence[int],
        logit_scale: float,
        **dense,
    ) -> Proposals:
        """Outlines of the blobs of a dense prediction.

        Args:
            pixels: (3, H', W'), RGB in [0, 1].
            logits: (Q, H, W) cosines.
            query_to_class: Class of each word.
            logit_scale: Factor on cosines.
            dense: What else a dense prediction knows.
        """
        size = tuple(logits.shape[-2:])
        values = merge_words(logits, query_to_class) * logit_scale
        least = max(1, round(self.min_area * size[0] * size[1]))
        lead = Lead.of(values)
        (labels,) = to_host([lead.best])
        blobs = Blobs.of(labels.numpy(), least, logits.device)
        with autocast(self.precision, pixels.device):
            features = self.sam.encode(pixels[None])
            answers = [
                self._ask(features, blobs, lead, some)
                for some in blobs.split(self.prompts_per_batch)
            ]
        low = features.embeddings.new_empty((0, *self.sam.mask_size), dtype=torch.float32)
        masks, iou = (
            (torch.cat(tensors) for tensors in zip(*answers, strict=True))
            if answers
            else (low, low.new_empty(0))
        )
        stable = stability(content(masks, features), self.offset)
        labels = upload(torch.tensor(blobs.classes, dtype=torch.long), logits.device)
        scores = (iou * stable).clamp(0, 1)
        found = Proposals(masks, scores, placed(features), labels)
        kept = self._agreeing(found, blobs, size)
        renamed = torch.full((len(found) + 1,), -1, device=logits.device)  # -1 stays the last
        renamed[kept] = torch.arange(len(kept), device=logits.device)
        return Proposals(
            masks[kept], scores[kept], found.enlarge, labels[kept], renamed[blobs.index]
        )

    def _agreeing(self, found: Proposals, blobs: Blobs, size: tuple[int, int]) -> Tensor:
        """Indices of the outlines that cover their own blobs well enough."""
        kept = [blobs.index.new_zeros(0).bool()]
        for part, masks in found.masks(size):
            for index, mask in enumerate(masks, start=part.start):
                blob = blobs.mask(index)
                iou = (mask & blob).sum() / (mask | blob).sum()
                kept.append(iou[None] > self.min_overlap)
        return torch.cat(kept).nonzero()[:, 0]

    def _ask(
        self, features: SAMFeatures, blobs: Blobs, lead: Lead, some: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """SAM's single answers (m, h, w) to some blobs, and their predicted IoU (m,)."""
        leads = [lead.of_class(blobs.classes[index]) for index in some]
        sparse = blobs.prompts(some, leads, self.sam, features)
        dense = None
        if self.soft_mask:
            inside = map(blobs.mask, some)
            soft = [
                torch.where(mask, own.abs(), -own.abs())
                for mask, own in zip(inside, leads, strict=True)
            ]
            dense = self._dense(torch.stack(soft), features)
        logits, iou = self.sam.decode(features, sparse, dense)
        logits, iou = logits[0, :, 0].float(), iou[0, :, 0].float()
        require_finite('SAM', logits, iou)
        return logits, iou

    def _dense(self, soft: Tensor, features) -> Tensor:
        """Dense prompts of soft masks (m, H, W) over the image."""
        soft = (self.soft_mask * soft).clamp(-SOFT_LIMIT, SOFT_LIMIT)
        target = self.sam.mask_size
        small = interpolate(
            soft[None],
            size=tuple(min(a, b) for a, b in zip(soft.shape[-2:], target, strict=True)),
            mode='bilinear',
            antialias=True,
        )
        return self.sam.prompt_masks(
            self.sam.from_image(small, features, target, outside=-SOFT_LIMIT)
        )


@dataclass(frozen=True)
class Lead:
    """By how much a class's logit exceeds the best other one's.

    Attributes:
        values: (C, H, W) logits.
        best: (H, W), the class of the highest.
        highest: (H, W).
        second: (H, W), the highest of the others; 0 of one class.
    """

    values: Tensor
    best: Tensor
    highest: Tensor
    second: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Lead:
        highest, best = values.max(0)
        if len(values) == 1:
            return cls(values, best, highest, torch.zeros_like(highest))
        return cls(values, best, highest, values.scatter(0, best[None], -torch.inf).amax(0))

    def of_class(self, label: int) -> Tensor:
        """(H, W)."""
        return self.values[label] - torch.where(self.best == label, self.second, self.highest)
