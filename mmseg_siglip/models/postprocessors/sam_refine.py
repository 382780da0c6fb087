"""Trident's refinement of labels by SAM, https://arxiv.org/abs/2411.09219.

Shapes: C classes, labels (H, W) and half of that (h, w), m blobs of a batch, SAM's masks (h', w').
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.device import to_host
from mmseg_siglip.models.finite import require_finite
from mmseg_siglip.models.labelling import Labels
from mmseg_siglip.models.postprocessors.context import Context
from mmseg_siglip.models.postprocessors.label_step import LabelStep
from mmseg_siglip.models.sam.blobs import Blobs
from mmseg_siglip.models.sam.geometry import SAMFeatures
from mmseg_siglip.precision import PRECISIONS, autocast
from mmseg_siglip.registry import MODELS

SOFT_FACTOR = 0.005
"""Of a class's probabilities where they are a prompt."""


@MODELS.register_module()
class SAMRefine(LabelStep):
    """Every blob of the labels asks SAM for its outline, and outlines compete by probability.

    Blobs are of half the size, of pixels that touch by sides or corners. One prompts by its box,
    its likeliest pixel and its class's probabilities. Where an outline is believed, its pixels have
    the class with sigmoid of SAM's logit times the class's probability; where it is not, the blob's
    pixels hold on to their labels with their best probability. The best wins; other pixels keep
    their labels.

    The published code (https://github.com/YuHengsss/Trident at a93b346) normalises the mask prompt
    over rows in place of channels, as its batch axis is missing; points to the upper left corner
    of pixels and leaves out a box's last ones; and adds the blobs that SAM failed on to the scores
    before it compares with them, so that they never win. None of that is done here. With the three
    mended there, labels are equal where both sides are even.

    Args:
        sam: Config of a `SAMAdapter`.
        coarse_thd: Pixels whose best probability is lower are in no blob; see `trident.COARSE_THD`.
        min_pixels: Smaller blobs, in pixels of half the size, do not ask.
        min_iou: An outline is believed above this IoU, as SAM predicts it.
        prompts_per_batch: Blobs decoded at a time.
        precision: Number format of SAM's image encoder; its decoder runs in float32.

    Raises:
        ValueError: A value is out of range.
    """

    needs_probabilities = True

    def __init__(
        self,
        sam: Mapping,
        *,
        coarse_thd: float = 0.2,
        min_pixels: int = 225,
        min_iou: float = 0.8,
        prompts_per_batch: int = 32,
        precision: str = 'fp32',
    ) -> None:
        super().__init__()
        for name, part in (('coarse_thd', coarse_thd), ('min_iou', min_iou)):
            if not 0 <= part <= 1:
                raise ValueError(f'SAMRefine: expected {name} in [0, 1], found {part}')
        for name, count in (('min_pixels', min_pixels), ('prompts_per_batch', prompts_per_batch)):
            if count < 1:
                raise ValueError(f'SAMRefine: expected {name} of 1 or more, found {count}')
        if precision not in PRECISIONS:
            raise ValueError(f'precision: expected one of {PRECISIONS}, found {precision!r}')
        self.sam = MODELS.build(sam).requires_grad_(False)
        self.coarse_thd, self.min_pixels, self.min_iou = coarse_thd, min_pixels, min_iou
        self.prompts_per_batch, self.precision = prompts_per_batch, precision

    @torch.no_grad()
    def forward(self, found: Labels, context: Context) -> Labels:
        size = tuple(found.labels.shape)
        half = tuple(max(1, side // 2) for side in size)
        chances = interpolate(found.probabilities[None], size=half, mode='bilinear')[0]
        labels = as_size(found.labels, half)
        labels = torch.where(chances.amax(0) < self.coarse_thd, -1, labels)
        sure = chances.flatten(1).amax(1) >= self.coarse_thd
        labels, sure = to_host([labels, sure])
        blobs = Blobs.of(labels.numpy(), self.min_pixels, chances.device)
        asking = [index for index, label in enumerate(blobs.classes) if sure[label]]
        if not asking:
            return found
        best, winner = self._compete(context.pixels[0], found, chances, blobs, asking)
        refined = torch.where(best > 0, winner, found.labels)
        scores = found.scores
        if scores is not None:
            scores = found.probabilities.gather(0, refined[None])[0]
        return replace(found, labels=refined, scores=scores)

    def _compete(
        self,
        pixels: Tensor,
        found: Labels,
        chances: Tensor,
        blobs: Blobs,
        asking: list[int],
    ) -> tuple[Tensor, Tensor]:
        """The highest bid for each pixel, 0 for none, and its class: two (H, W)."""
        size = tuple(found.labels.shape)
        own = as_size(blobs.index, size)
        with autocast(self.precision, pixels.device):
            features = self.sam.encode(pixels[None])
        highest = found.probabilities.amax(0)
        best, winner = torch.zeros_like(highest), found.labels
        with autocast('fp32', pixels.device):
            features = replace(
                features,
                embeddings=features.embeddings.float(),
                high_resolution=tuple(x.float() for x in features.high_resolution),
            )
            for first in range(0, len(asking), self.prompts_per_batch):
                some = asking[first : first + self.prompts_per_batch]
                for index, logits, iou in zip(
                    some, *self._ask(features, chances, blobs, some), strict=True
                ):
                    if iou > self.min_iou:
                        label = blobs.classes[index]
                        chance = found.probabilities[label]
                        logits = self.sam.to_image(logits[None], features, size)[0]
                        bid = torch.where(logits > 0, logits.sigmoid() * chance, 0)
                    else:
                        label = found.labels
                        bid = torch.where(own == index, highest, 0)
                    winner = torch.where(bid > best, label, winner)
                    best = torch.maximum(bid, best)
        return best, winner

    def _ask(
        self, features: SAMFeatures, chances: Tensor, blobs: Blobs, some: list[int]
    ) -> tuple[Tensor, list[float]]:
        """SAM's answers to some blobs, logits (m, h', w'), and the IoU that it predicts of each."""
        likely = [chances[blobs.classes[index]] for index in some]
        sparse = blobs.prompts(some, likely, self.sam, features)
        soft = self.sam.from_image(torch.stack(likely)[None], features, self.sam.mask_size)
        soft = torch.where(soft > self.coarse_thd, soft * SOFT_FACTOR, 0)
        logits, iou = self.sam.decode(features, sparse, self.sam.prompt_masks(soft))
        require_finite('SAM', logits, iou, later=True)
        (known,) = to_host([iou[0, :, 0]])
        return logits[0, :, 0], known.tolist()


def as_size(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels (H, W) at a size, by the nearest pixel."""
    return interpolate(labels[None, None].double(), size=size, mode='nearest')[0, 0].long()
