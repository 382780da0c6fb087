"""Blobs of a label map, and what they ask SAM.

Shapes: M blobs of a label map (H, W), m of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor

from mmseg_siglip.device import upload
from mmseg_siglip.kept import constant
from mmseg_siglip.models.sam.geometry import SAMFeatures

if TYPE_CHECKING:
    from mmseg_siglip.models.sam.adapter import SAMAdapter


@dataclass(frozen=True)
class Blobs:
    """Connected parts of equal label, corners connected.

    Attributes:
        index: (H, W) int64, the part that each pixel is in, -1 in none.
        classes: The label of each part.
        boxes: (M, 4) float32, x0, y0, x1, y1 of each part in pixels, the last two behind it; on the
            CPU.
    """

    index: Tensor
    classes: Sequence[int]
    boxes: Tensor

    @classmethod
    def of(cls, labels: np.ndarray, min_pixels: int, device: torch.device) -> Blobs:
        """The parts of a label map (H, W), by rising label.

        Args:
            labels: Negative ones are in no part.
            min_pixels: Smaller parts are left out.
            device: Where `index` is to be.
        """
        parts = np.full(labels.shape, -1, np.int64)
        classes: list[int] = []
        boxes: list[list[int]] = []
        for label in np.unique(labels[labels >= 0]):
            count, found, stats, _ = cv2.connectedComponentsWithStats(
                (labels == label).astype(np.uint8)
            )
            for index in range(1, count):
                x, y, width, height, area = stats[index]
                if area >= min_pixels:
                    parts[found == index] = len(classes)
                    classes.append(int(label))
                    boxes.append([x, y, x + width, y + height])
        table = torch.tensor(np.array(boxes, np.float32).reshape(-1, 4))
        return cls(upload(torch.from_numpy(parts), device), classes, table)

    def __len__(self) -> int:
        return len(self.classes)

    def split(self, size: int) -> Iterator[Sequence[int]]:
        """Numbers of the parts, so many at a time."""
        numbers = range(len(self))
        return (numbers[first : first + size] for first in numbers[::size])

    def mask(self, number: int) -> Tensor:
        """(H, W) bool."""
        return self.index == number

    def prompts(
        self, some: Sequence[int], likely: Sequence[Tensor], sam: SAMAdapter, features: SAMFeatures
    ) -> Tensor:
        """Sparse prompts (1, m, T, C) of some parts: their boxes and their likeliest pixels.

        Args:
            some: Their numbers.
            likely: For each, (H, W), how likely a pixel is its class.
            sam: Whose prompts they are.
            features: Of one image, over all of which the labels are.
        """
        device, width = self.index.device, self.index.shape[1]
        best = torch.stack(
            [
                own.masked_fill(~self.mask(number), -torch.inf).argmax()
                for number, own in zip(some, likely, strict=True)
            ]
        )
        points = torch.stack([best % width, best // width], dim=-1) + 0.5
        own, ours = features.sizes[0], self.index.shape
        scale = constant((own[1] / ours[1], own[0] / ours[0]), dtype=points.dtype, device=device)
        boxes = upload(self.boxes[list(some)], device) * scale.repeat(2)
        points = (points * scale)[None, :, None]
        ones = torch.ones(points.shape[:-1], device=device)
        # As SAM has it, a box takes the place of the token "not a point".
        click = sam.prompt_points(points, ones, features)[:, :, :-1]
        return torch.cat([click, sam.prompt_boxes(boxes[None], features)], dim=2)
