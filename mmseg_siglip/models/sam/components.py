"""A dense prediction's own blobs as prompts: Trident's refinement, https://arxiv.org/abs/2411.09219.

Shapes: Q query words, C classes, M blobs, a label map of (H, W), SAM's masks (h, w).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.models.finite import require_finite
from mmseg_siglip.models.labelling import merge_words
from mmseg_siglip.models.sam.proposals import Proposals, content, placed, stability
from mmseg_siglip.precision import PRECISIONS, autocast
from mmseg_siglip.registry import MODELS

SOFT_LIMIT = 16.0  # of a mask prompt's logits, about the range of SAM's own answers


def components(labels: np.ndarray, min_pixels: int) -> tuple[np.ndarray, list[int]]:
    """Connected parts of equal label, corners connected.

    Args:
        labels: (H, W) class of each pixel.
        min_pixels: Smaller parts are left out.

    Returns:
        (H, W) int32 index of each pixel's part, -1 in those left out, and the parts' classes.
    """
    parts = np.full(labels.shape, -1, np.int32)
    classes: list[int] = []
    for label in np.unique(labels):
        count, found, stats, _ = cv2.connectedComponentsWithStats(
            (labels == label).astype(np.uint8)
        )
        for index in range(1, count):
            if stats[index, cv2.CC_STAT_AREA] >= min_pixels:
                parts[found == index] = len(classes)
                classes.append(int(label))
    return parts, classes


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
        parts, classes = components(values.argmax(0).cpu().numpy(), least)
        parts = torch.from_numpy(parts).to(logits.device).long()
        index = torch.arange(len(classes), device=logits.device)
        with autocast(self.precision, pixels.device):
            features = self.sam.encode(pixels[None])
            answers = [
                self._ask(features, parts, values, part.tolist(), classes, pixels)
                for part in index.split(self.prompts_per_batch)
                if len(part)
            ]
        low = features.embeddings.new_empty((0, *self.sam.mask_size), dtype=torch.float32)
        masks, iou = (
            (torch.cat(tensors) for tensors in zip(*answers, strict=True))
            if answers
            else (low, low.new_empty(0))
        )
        stable = stability(content(masks, features), self.offset)
        labels = torch.tensor(classes, device=logits.device, dtype=torch.long)
        scores = (iou * stable).clamp(0, 1)
        found = Proposals(masks, scores, placed(features), labels)
        kept = self._agreeing(found, parts, size)
        renamed = torch.full((len(found) + 1,), -1, device=logits.device)  # -1 stays the last
        renamed[kept] = torch.arange(len(kept), device=logits.device)
        return Proposals(masks[kept], scores[kept], found.enlarge, labels[kept], renamed[parts])

    def _agreeing(self, found: Proposals, parts: Tensor, size: tuple[int, int]) -> Tensor:
        """Indices of the outlines that cover their own blobs well enough."""
        kept = []
        for part, masks in found.masks(size):
            for index, mask in enumerate(masks, start=part.start):
                blob = parts == index
                iou = (mask & blob).sum() / (mask | blob).sum()
                if iou > self.min_overlap:
                    kept.append(index)
        return torch.tensor(kept, dtype=torch.long, device=parts.device)

    def _ask(
        self,
        features,
        parts: Tensor,
        values: Tensor,
        indices: list[int],
        classes: list[int],
        pixels: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """SAM's single answers (m, h, w) to some blobs, and their predicted IoU (m,)."""
        size, own = parts.shape, pixels.shape[-2:]
        boxes, points, soft = [], [], []
        for index in indices:
            blob = parts == index
            rows, columns = blob.any(1).nonzero()[:, 0], blob.any(0).nonzero()[:, 0]
            boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            lead = self._lead(values, classes[index])
            best = lead.masked_fill(~blob, -torch.inf).argmax()
            points.append([best % size[1] + 0.5, best // size[1] + 0.5])
            soft.append(torch.where(blob, lead.abs(), -lead.abs()))
        scale = values.new_tensor([own[1] / size[1], own[0] / size[0]])
        points = values.new_tensor(points)[None, :, None] * scale
        boxes = values.new_tensor(boxes)[None] * scale.repeat(2)
        ones = torch.ones(points.shape[:-1], device=points.device)
        # As SAM has it, a box takes the place of the token "not a point".
        click = self.sam.prompt_points(points, ones, features)[:, :, :-1]
        sparse = torch.cat([click, self.sam.prompt_boxes(boxes, features)], dim=2)
        dense = self._dense(torch.stack(soft), features) if self.soft_mask else None
        logits, iou = self.sam.decode(features, sparse, dense)
        logits, iou = logits[0, :, 0].float(), iou[0, :, 0].float()
        require_finite('SAM', logits, iou)
        return logits, iou

    def _lead(self, values: Tensor, label: int) -> Tensor:
        """By how much a class's logit exceeds the best other one's: (H, W)."""
        others = values.clone()
        others[label] = -torch.inf
        rival = others.amax(0) if len(values) > 1 else values[label] * 0
        return values[label] - rival

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
