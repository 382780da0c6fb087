"""Masks of whatever is in an image, from a grid of clicks.

What segment-anything's automatic generator does (https://arxiv.org/abs/2304.02643, appendix B), on
the device and on SAM's small masks: nothing is enlarged, encoded or moved to be thrown away after.

Shapes: n x n clicks, M proposals, SAM's masks (h, w), an image of (H, W) pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmseg_siglip.device import at_once, upload
from mmseg_siglip.models.finite import require_finite
from mmseg_siglip.models.sam.geometry import SAMFeatures, Size, to_image
from mmseg_siglip.precision import PRECISIONS, autocast
from mmseg_siglip.registry import MODELS
from mmseg_siglip.text.vocabulary import Vocabulary

CHUNK_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Proposals:
    """Masks that an image may be made of.

    Attributes:
        logits: (M, h, w), above 0 inside.
        scores: (M,) in [0, 1], how good each mask is believed to be.
        enlarge: From some of the logits (m, h, w) and a size to logits (m, H, W) over the image.
        labels: (M,) class of each mask, where a proposer knows it.
        origins: (H, W) index of the mask that each pixel's dense label gave rise to, or -1; where
            a proposer knows it.
    """

    logits: Tensor
    scores: Tensor
    enlarge: Callable[[Tensor, Size], Tensor]
    labels: Tensor | None = None
    origins: Tensor | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def masks(self, size: Size) -> Iterator[tuple[slice, Tensor]]:
        """All masks at a size, (m, H, W) bool, some at a time, and which ones they are."""
        step = at_once(4 * size[0] * size[1], self.logits.device, CHUNK_BYTES)
        for first in range(0, len(self), step):
            part = slice(first, min(first + step, len(self)))
            yield part, self.enlarge(self.logits[part], size) > 0

    def all_masks(self, size: Size) -> Tensor:
        """The same at once, (M, H, W) bool, held once."""
        found = torch.empty(len(self), *size, dtype=torch.bool, device=self.logits.device)
        for part, masks in self.masks(size):
            found[part] = masks
        return found

    def take(self, index: Tensor) -> Proposals:
        """Some of the proposals, by indices; without origins."""
        labels = None if self.labels is None else self.labels[index]
        return replace(
            self,
            logits=self.logits[index],
            scores=self.scores[index],
            labels=labels,
            origins=None,
        )


def propose(proposer: nn.Module, pixels: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Regions (H, W) or (M, H, W) that a module finds in an image (3, H, W), RGB in [0, 1]; it is
    told the words if it asks for them."""
    told = {}
    if getattr(proposer, 'asks_words', False):
        told = dict(words=vocabulary.queries, query_to_class=vocabulary.query_to_class)
    return regions_of(proposer, pixels, **told)


def regions_of(proposer: nn.Module, pixels: Tensor, **told: Any) -> Tensor:
    """The same of a module that is told this."""
    found = proposer(pixels, **told)
    return found.all_masks(tuple(pixels.shape[-2:])) if isinstance(found, Proposals) else found


def placed(features: SAMFeatures) -> Callable[[Tensor, Size], Tensor]:
    """How masks over SAM's input become masks over the one image of `features`."""
    return lambda logits, size: to_image(logits[None], features, size)[0]


def grid_points(points_per_side: int, size: Size) -> Tensor:
    """Centres of n x n cells of an image (H, W): (n², 2) as (x, y), row by row."""
    steps = (torch.arange(points_per_side) + 0.5) / points_per_side
    y, x = torch.meshgrid(steps * size[0], steps * size[1], indexing='ij')
    return torch.stack([x.flatten(), y.flatten()], dim=-1)


def content(logits: Tensor, features: SAMFeatures) -> Tensor:
    """The part of masks (..., h, w) over SAM's input that shows the one image of `features`."""
    filled = features.contents[0]
    rows, columns = (
        -(-n * side // whole)
        for n, side, whole in zip(logits.shape[-2:], filled, features.input_size, strict=True)
    )
    return logits[..., :rows, :columns]


def stability(logits: Tensor, offset: float) -> Tensor:
    """IoU of each mask (M, h, w) cut at +offset with itself cut at -offset; 0 if it is empty."""
    inner, outer = ((logits > cut).sum((-2, -1)) for cut in (offset, -offset))
    return inner / outer.clamp(min=1)


def suppress(masks: Tensor, scores: Tensor, max_iou: float) -> Tensor:
    """Greedy suppression by the IoU of the masks themselves: a nested shape is not its outer one.

    Args:
        masks: (M, h, w) bool.
        scores: (M,).
        max_iou: Of two masks that overlap more, the lower one goes.

    Returns:
        Indices that stay, by falling score; of equals the first stays.
    """
    order = scores.argsort(descending=True, stable=True)
    flat = masks[order].flatten(1).float()
    both = flat @ flat.T
    area = flat.sum(1)
    iou = both / (area[:, None] + area - both).clamp(min=1)
    overlaps = (iou > max_iou).cpu()
    stays: list[int] = []
    gone = torch.zeros(len(order), dtype=torch.bool)
    for index in range(len(order)):
        if not gone[index]:
            stays.append(index)
            gone |= overlaps[index]
    return order[upload(torch.tensor(stays, dtype=torch.long), order.device)]


@MODELS.register_module()
class SAMPointGrid(BaseModule):
    """Proposals from clicks on a regular grid, the good and different ones kept.

    Args:
        sam: Config of a `SAMAdapter`.
        points_per_side: n; SAM takes 32. Eight cost little accuracy for large classes.
        points_per_batch: Clicks decoded at a time.
        min_iou: Least predicted IoU.
        min_stability: Least stability.
        stability_offset: See `stability`.
        max_iou: Of two masks that overlap more, the one of the lower predicted IoU goes.
        max_masks: So many, by predicted IoU, are compared with one another.
        multimask: Three proposals a click; else SAM's one answer.
        precision: Number format of SAM.

    Raises:
        ValueError: A count is below 1 or the precision unknown.
    """

    def __init__(
        self,
        sam: Mapping,
        *,
        points_per_side: int = 32,
        points_per_batch: int = 64,
        min_iou: float = 0.88,
        min_stability: float = 0.95,
        stability_offset: float = 1.0,
        max_iou: float = 0.7,
        max_masks: int = 1000,
        multimask: bool = True,
        precision: str = 'fp32',
    ) -> None:
        super().__init__()
        counts = dict(
            points_per_side=points_per_side, points_per_batch=points_per_batch, max_masks=max_masks
        )
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f'SAMPointGrid: expected {name} of 1 or more, found {count}')
        if precision not in PRECISIONS:
            raise ValueError(f'precision: expected one of {PRECISIONS}, found {precision!r}')
        self.sam = MODELS.build(sam).requires_grad_(False)
        self.points_per_side, self.points_per_batch = points_per_side, points_per_batch
        self.min_iou, self.min_stability, self.offset = min_iou, min_stability, stability_offset
        self.max_iou, self.max_masks = max_iou, max_masks
        self.multimask, self.precision = multimask, precision

    @torch.no_grad()
    def forward(self, pixels: Tensor, **dense) -> Proposals:
        """Propose masks for an image.

        Args:
            pixels: (3, H, W), RGB in [0, 1].
            dense: What a dense prediction knows, which a grid does not ask for.

        Returns:
            Proposals whose scores are predicted IoU times stability.

        Raises:
            NotFinite: A logit or a predicted IoU is no number.
        """
        grid = grid_points(self.points_per_side, tuple(pixels.shape[-2:]))
        with autocast(self.precision, pixels.device):
            features = self.sam.encode(pixels[None])
            parts = [
                self._decode(features, points)
                for points in upload(grid, pixels.device).split(self.points_per_batch)
            ]
        logits, iou, stable = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        best = iou.argsort(descending=True, stable=True)[: self.max_masks]
        kept = best[suppress(content(logits[best], features) > 0, iou[best], self.max_iou)]
        scores = (iou[kept] * stable[kept]).clamp(0, 1)
        return Proposals(logits[kept], scores, placed(features))

    def _decode(self, features: SAMFeatures, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (m, h, w), predicted IoU and stability of what passes the thresholds."""
        clicks = points[None, :, None]
        ones = torch.ones(clicks.shape[:-1], device=points.device)
        sparse = self.sam.prompt_points(clicks, ones, features)
        logits, iou = self.sam.decode(features, sparse, multimask=self.multimask)
        logits, iou = logits.flatten(0, 2).float(), iou.flatten().float()
        require_finite('SAM', logits, iou)
        stable = stability(content(logits, features), self.offset)
        good = (iou > self.min_iou) & (stable >= self.min_stability)
        good &= (content(logits, features) > 0).flatten(1).any(1)
        good = good.nonzero()[:, 0]
        return logits[good], iou[good], stable[good]
