"""Masks of one thing made one, as TextRegion (https://arxiv.org/abs/2505.23769) does with SAM's.

Shapes: R masks over an image (H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_siglip.device import at_once
from mmseg_siglip.models.backbones.block import CHUNK_BYTES
from mmseg_siglip.models.dense.region_masks import mask_boxes

BOX_IOU = 0.2
CONTAINMENT = 0.8


def merged(masks: Tensor) -> Tensor:
    """Each mask takes in those behind it that lie in it or around it.

    That is, whose box has an IoU above `BOX_IOU` with its own, and of which, or of itself where it
    is smaller, more than `CONTAINMENT` is in both; as the masks came, whatever it took in already.

    Args:
        masks: (R, H, W) bool, the more important first.

    Returns:
        (R', H, W) bool, those that are left, in their order.
    """
    near = alike(masks).cpu()
    gone, found = torch.zeros(len(masks), dtype=torch.bool), []
    for index in range(len(masks)):
        if not gone[index]:
            taken = near[index] & ~gone
            taken[:index], taken[index] = False, True
            gone |= taken
            found.append(masks[taken.to(masks.device)].any(0))
    return torch.stack(found) if found else masks


def alike(masks: Tensor) -> Tensor:
    """Which of them go together, (R, R) bool; an empty one with none."""
    flat, both = masks.flatten(1), masks.new_zeros(len(masks), len(masks), dtype=torch.float32)
    for part in flat.split(at_once(4 * len(masks), masks.device, CHUNK_BYTES), dim=1):
        both += part.float() @ part.float().T
    area = both.diagonal()
    contained = both / torch.minimum(area[:, None], area).clamp(min=1)
    return (contained > CONTAINMENT) & (box_iou(mask_boxes(masks)) > BOX_IOU)


def box_iou(boxes: Tensor) -> Tensor:
    """IoU of boxes of `mask_boxes` (R, 4) with each other, (R, R)."""
    first, last = boxes[:, ::2].float(), boxes[:, 1::2].float()
    sides = torch.minimum(last[:, None], last) - torch.maximum(first[:, None], first)
    both, area = sides.clamp(min=0).prod(-1), (last - first).prod(-1)
    return both / (area[:, None] + area - both).clamp(min=1)
