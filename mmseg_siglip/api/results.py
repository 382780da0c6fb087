"""What came out for one image, and the forms that people need it in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as coco_mask

ALPHA = 0.55
LEGEND_ROW = 22


@dataclass(frozen=True)
class Segmentation:
    """Labels of one image.

    Attributes:
        labels: (H, W) int64, indices into `classes`.
        scores: (H, W) float32 in [0, 1], the probability of each pixel's label.
        classes: C names.
        image: (H, W, 3) uint8, RGB.
    """

    labels: np.ndarray
    scores: np.ndarray
    classes: tuple[str, ...]
    image: np.ndarray

    @property
    def palette(self) -> np.ndarray:
        """A colour for each class: (C, 3) uint8, RGB."""
        return class_colours(len(self.classes))

    @property
    def found(self) -> list[int]:
        """Classes that occur, the largest first."""
        area = np.bincount(self.labels.ravel(), minlength=len(self.classes))
        return [int(index) for index in np.argsort(-area, kind='stable') if area[index]]

    def plot(self) -> Image.Image:
        """The image, tinted by class, above a legend of the classes that occur."""
        tint = self.palette[self.labels]
        blend = (1 - ALPHA) * self.image + ALPHA * tint
        picture = Image.fromarray(blend.round().astype(np.uint8))
        return add_legend(picture, [(self.classes[i], tuple(self.palette[i])) for i in self.found])

    def save(self, path: str | Path) -> None:
        """Write the label map: an indexed 8-bit PNG in the colours of `plot`.

        More than 256 classes make a 16-bit grey PNG.
        """
        if len(self.classes) > 256:
            Image.fromarray(self.labels.astype(np.uint16)).save(path, format='PNG')
            return
        image = Image.fromarray(self.labels.astype(np.uint8), mode='P')
        image.putpalette(self.palette.tobytes())
        image.save(path, format='PNG')

    def to_coco_rle(self) -> list[dict]:
        """One entry for each class that occurs, in COCO's result format.

        Returns:
            ``category_id`` (class index), ``category`` (its name), ``segmentation`` (compressed
            RLE, counts as text), ``area`` (pixels), ``bbox`` (x, y, width, height) and ``score``
            (mean over the pixels).
        """
        entries = []
        for index in self.found:
            mask = self.labels == index
            rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            entries.append(
                dict(
                    category_id=index,
                    category=self.classes[index],
                    segmentation=dict(size=list(mask.shape), counts=rle['counts'].decode('ascii')),
                    area=int(mask.sum()),
                    bbox=[float(value) for value in coco_mask.toBbox(rle)],
                    score=float(self.scores[mask].mean()),
                )
            )
        return entries

    def to_supervision(self):
        """`supervision.Detections` with one mask for each class that occurs.

        Raises:
            ImportError: supervision is not installed.
        """
        import supervision

        masks = np.stack([self.labels == index for index in self.found])
        return supervision.Detections(
            xyxy=supervision.mask_to_xyxy(masks),
            mask=masks,
            class_id=np.array(self.found),
            confidence=np.array([self.scores[mask].mean() for mask in masks]),
            data=dict(class_name=np.array([self.classes[index] for index in self.found])),
        )


def class_colours(count: int) -> np.ndarray:
    """`count` colours, neighbours far apart: (count, 3) uint8, RGB."""
    golden = (np.arange(count) * 0.6180339887498949) % 1
    return (colormaps['hsv'](golden)[:, :3] * 255).round().astype(np.uint8)


def add_legend(picture: Image.Image, entries: list[tuple[str, tuple]]) -> Image.Image:
    """Names beside patches of their colours, in rows below the picture."""
    font = ImageFont.load_default(size=14)
    places, x, y = [], 6, picture.height + 4
    for name, colour in entries:
        width = 20 + round(font.getlength(name)) + 14
        if x > 6 and x + width > picture.width:
            x, y = 6, y + LEGEND_ROW
        places.append((x, y, name, colour))
        x += width
    canvas = Image.new('RGB', (picture.width, y + LEGEND_ROW), 'white')
    canvas.paste(picture)
    draw = ImageDraw.Draw(canvas)
    for x, y, name, colour in places:
        draw.rectangle((x, y + 2, x + 14, y + 16), fill=tuple(int(v) for v in colour))
        draw.text((x + 20, y + 1), name, fill='black', font=font)
    return canvas
