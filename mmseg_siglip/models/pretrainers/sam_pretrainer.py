"""Training Segment Anything from clicks, boxes and masks on MMEngine's Runner.

https://arxiv.org/abs/2304.02643, section 3 and appendix A.

Shapes: B images of (H, W) pixels, P regions each, SAM's three proposals, its masks (h, w).
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn.functional import mse_loss

from mmseg_siglip.models.losses import MaskBCELoss, MaskDiceLoss
from mmseg_siglip.models.sam.geometry import mask_iou
from mmseg_siglip.registry import MODELS

PROMPTS = ('point', 'box', 'both')
JITTER = 0.1  # of a box's sides, the standard deviation of its noise


def random_points(masks: Tensor) -> Tensor:
    """One pixel of each mask (B, P, H, W), drawn evenly: (B, P, 1, 2) as (x, y)."""
    noise = torch.rand(masks.shape, device=masks.device).masked_fill(masks != 1, -1)
    index = noise.flatten(2).argmax(-1)
    width = masks.shape[-1]
    return torch.stack([index % width, index // width], dim=-1)[:, :, None].float() + 0.5


def central_points(masks: Tensor) -> Tensor:
    """The pixel of each mask (B, P, H, W) that is farthest from its edge: (B, P, 1, 2)."""
    points = []
    for mask in masks.flatten(0, 1).cpu().numpy() == 1:
        framed = np.pad(mask.astype(np.uint8), 1)
        depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        points.append([x + 0.5, y + 0.5])
    return masks.new_tensor(points, dtype=torch.float32).reshape(*masks.shape[:2], 1, 2)


def boxes_of(masks: Tensor) -> Tensor:
    """Bounding boxes (..., 4), x1, y1, x2, y2, of non-empty masks (..., H, W)."""
    edges = []
    for axis in (-2, -1):  # columns, then rows
        line = (masks == 1).any(axis).int()
        first, size = line.argmax(-1), line.shape[-1]
        last = size - line.flip(-1).argmax(-1)
        edges.append((first, last))
    (x1, x2), (y1, y2) = edges
    return torch.stack([x1, y1, x2, y2], dim=-1).float()


@MODELS.register_module()
class SAMPretrainer(BaseModel):
    """Trains a SAM to give the region that a prompt points at.

    Each region is asked for twice. First by one click, anywhere on it: the best of SAM's three
    proposals trains. Then, for SAM's single answer, by a click, a noisy box or both, and in half of
    the regions by the first answer as a mask. Masks learn by binary cross-entropy and Dice (SAM's
    own focal loss is for objects that are few in large images), predicted IoUs by their error.

    Validation clicks once, in the middle of each region, and takes the proposal of the highest
    predicted IoU as ``pred_sem_seg``, (P, H, W).

    Args:
        backbone: Config of a `SAMAdapter`.
    """

    def __init__(self, backbone: Mapping) -> None:
        super().__init__(
            data_preprocessor=dict(
                type='SegDataPreProcessor',
                mean=[0.0] * 3,
                std=[255.0] * 3,
                bgr_to_rgb=True,
                size_divisor=1,
            )
        )
        self.backbone = MODELS.build(backbone)
        self.bce, self.dice = MaskBCELoss(), MaskDiceLoss()

    def forward(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[SegDataSample] | Tensor:
        """Runs SAM.

        Args:
            inputs: (B, 3, H, W), RGB in [0, 1].
            data_samples: Each with masks ``gt_sem_seg``, (P, H, W); in training P is the same.
            mode: ``loss`` for a dict of scalars, ``predict`` for samples, ``tensor`` for
                embeddings.
        """
        if mode == 'loss':
            return self._loss(inputs, data_samples)
        if mode == 'predict':
            return self._predict(inputs, data_samples)
        if mode == 'tensor':
            return self.backbone.encode(inputs).embeddings
        raise ValueError(f"mode: expected loss, predict or tensor, found '{mode}'")

    def _loss(self, inputs: Tensor, samples: list[SegDataSample]) -> dict[str, Tensor]:
        sam, truth = self.backbone, torch.stack([sample.gt_sem_seg.data for sample in samples])
        features = sam.encode(inputs)
        clicks = random_points(truth)
        ones = torch.ones(clicks.shape[:-1], device=clicks.device)
        low, iou = sam.decode(features, sam.prompt_points(clicks, ones, features), multimask=True)
        masks, quality = self._compare(low, iou, features, truth)
        best = masks.argmin(-1)
        losses = dict(loss_proposals=masks.min(-1).values.mean(), loss_iou=quality)

        first = low.gather(2, best[..., None, None, None].expand(-1, -1, 1, *low.shape[-2:]))
        dense = sam.prompt_masks(first[:, :, 0].detach().float())
        given = torch.rand(dense.shape[:2], device=dense.device) < 0.5
        dense = torch.where(given[..., None, None, None], dense, sam.no_mask(*dense.shape[:2]))
        sparse = self._sparse(truth, features)
        low, iou = sam.decode(features, sparse, dense)
        masks, quality = self._compare(low, iou, features, truth)
        losses['loss_answer'] = masks.mean()
        losses['loss_iou'] = losses['loss_iou'] + quality
        return losses

    def _sparse(self, truth: Tensor, features) -> Tensor:
        """Tokens of a click, of a noisy box, or of both, the same kind for the whole batch."""
        sam, kind = self.backbone, PROMPTS[int(torch.randint(len(PROMPTS), ()))]
        boxes = boxes_of(truth)
        sides = (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)
        boxes = boxes + JITTER * sides * torch.randn_like(boxes).clamp(-2, 2)
        clicks = random_points(truth)
        ones = torch.ones(clicks.shape[:-1], device=clicks.device)
        if kind == 'point':
            return sam.prompt_points(clicks, ones, features)
        box = sam.prompt_boxes(boxes, features)
        if kind == 'box':
            return box
        return torch.cat([sam.prompt_points(clicks, ones, features)[:, :, :1], box], dim=2)

    def _compare(self, low: Tensor, iou: Tensor, features, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Losses of masks (B, P, M), and the error of their predicted IoUs."""
        logits = self.backbone.to_image(low, features)
        wanted = truth[:, :, None].expand(logits.shape)
        flat = logits.flatten(0, 2), wanted.flatten(0, 2)
        masks = (self.bce(*flat) + self.dice(*flat)).unflatten(0, low.shape[:3])
        actual = mask_iou(logits > 0, wanted == 1)
        return masks, mse_loss(iou.float(), actual)

    def _predict(self, inputs: Tensor, samples: list[SegDataSample]) -> list[SegDataSample]:
        sam, encoded = self.backbone, self.backbone.encode(inputs)
        for index, sample in enumerate(samples):
            features, truth = encoded[index], sample.gt_sem_seg.data[None]
            clicks = central_points(truth).to(inputs.device)
            ones = torch.ones(clicks.shape[:-1], device=clicks.device)
            sparse = sam.prompt_points(clicks, ones, features)
            low, iou = sam.decode(features, sparse, multimask=True)
            logits = sam.to_image(low, features)[0]
            best = iou[0].argmax(-1)
            chosen = logits[torch.arange(len(best), device=best.device), best]
            sample.set_data(dict(pred_sem_seg=PixelData(data=(chosen > 0).byte())))
        return samples
