"""What was found where in one image: classes, or what a phrase means.

Shapes: an image is (H, W, 3) uint8, RGB; a mask or map is (H, W).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from mmseg_siglip.api.drawing import (
    AnyColour,
    Palette,
    add_legend,
    blend,
    borders,
    colour_of,
    palette_of,
    write_name,
)
from mmseg_siglip.io.files import image_bytes, write_image

ALPHA = 0.55
COLOUR = (255, 40, 200)
DARK = 0.6


@dataclass(frozen=True)
class Segmentation:
    """Labels of one image.

    Attributes:
        labels: (H, W) int64, indices into `classes`.
        scores: (H, W) float32 in [0, 1], the probability of each pixel's label.
        classes: C names.
        image: (H, W, 3) uint8, RGB.

    Examples:
        >>> import numpy as np
        >>> from mmseg_siglip.api import Segmentation
        >>> image = np.zeros((2, 3, 3), np.uint8)
        >>> labels = np.array([[0, 0, 1], [0, 1, 1]])
        >>> found = Segmentation(labels, np.full((2, 3), 0.9), ('sky', 'sea'), image)
        >>> [found.classes[index] for index in found.found]
        ['sky', 'sea']
        >>> found.to_coco_rle()[0]['bbox']
        [0.0, 0.0, 2.0, 2.0]
        >>> found.plot(opacity=0.7, palette={'sky': '#80c0ff'}).save('picture.png')
        >>> found.save('labels.png')
    """

    suffix: ClassVar[str] = 'labels.png'
    columns: ClassVar[Mapping[str, str]] = dict(
        png='binary', found='list<int32>', scores='list<float32>'
    )

    labels: np.ndarray
    scores: np.ndarray
    classes: tuple[str, ...]
    image: np.ndarray

    @property
    def palette(self) -> np.ndarray:
        """A colour for each class, see `class_colours`: (C, 3) uint8, RGB."""
        return palette_of(self.classes)

    @property
    def found(self) -> list[int]:
        """Classes that occur, the largest first."""
        area = np.bincount(self.labels.ravel(), minlength=len(self.classes))
        return [int(index) for index in np.argsort(-area, kind='stable') if area[index]]

    def plot(
        self,
        *,
        opacity: float = ALPHA,
        outlines: bool = False,
        labels: bool = False,
        palette: Palette | None = None,
    ) -> Image.Image:
        """The image, tinted by class, above a legend of the classes that occur.

        Args:
            opacity: Of the tint, 0 to 1.
            outlines: Whether the border of each class is drawn in its colour, without the image.
            labels: Whether the classes' names are written on the picture, too.
            palette: Other colours than `class_colours`: of some classes by their names, such as
                ``{'cat': '#ff8000', 'dog': (0, 0, 255)}``, or one for each class.

        Raises:
            ValueError: `opacity` or `palette` cannot be used.
        """
        colours = palette_of(self.classes, palette)
        tint = colours[self.labels]
        shown = blend(self.image, tint, opacity)
        if outlines:
            lines = borders(self.labels)
            shown[lines] = tint[lines]
        picture = Image.fromarray(shown)
        for index in self.found if labels else ():
            write_name(picture, self.classes[index], self.labels == index)
        return add_legend(picture, [(self.classes[i], tuple(colours[i])) for i in self.found])

    def save(self, path: str | Path) -> None:
        """Write the label map: an indexed 8-bit PNG in the colours of `plot`.

        More than 256 classes make a 16-bit grey PNG.
        """
        write_image(self._picture(), path)

    def _picture(self) -> Image.Image:
        if len(self.classes) > 256:
            return Image.fromarray(self.labels.astype(np.uint16))
        image = Image.fromarray(self.labels.astype(np.uint8), mode='P')
        image.putpalette(self.palette.tobytes())
        return image

    def to_row(self) -> dict[str, Any]:
        """``png``, the bytes that `save` writes; ``found``, the classes that occur, the largest
        first, and ``scores``, the mean of each over its pixels."""
        scores = [float(self.scores[self.labels == index].mean()) for index in self.found]
        return dict(png=image_bytes(self._picture()), found=self.found, scores=scores)

    def to_dict(self) -> dict[str, Any]:
        """``size`` (H, W), ``classes``, and ``segments``, see `to_coco_rle`."""
        return dict(
            size=list(self.labels.shape),
            classes=list(self.classes),
            segments=self.to_coco_rle(),
        )

    def to_coco_rle(
        self, image_id: int | None = None, *, category_ids: Sequence[int] | None = None
    ) -> list[dict]:
        """One entry for each class that occurs, in COCO's result format.

        Args:
            image_id: Id of the image in a COCO data set. With it, pycocotools' ``COCO.loadRes``
                takes the entries of all images in one list, and ``area`` and ``bbox`` are left
                out: of results with a box it takes the box's area for the mask's.
            category_ids: Id of each class in that data set; its index if not given.

        Returns:
            ``category_id``, ``category`` (the class's name), ``segmentation`` (compressed RLE,
            counts as text), ``area`` (pixels), ``bbox`` (x, y, width, height) and ``score`` (mean
            over the pixels).

        Raises:
            ValueError: There are not as many ids as classes.
        """
        ids = range(len(self.classes)) if category_ids is None else category_ids
        if len(ids) != len(self.classes):
            raise ValueError(
                f'category_ids: expected one for each of {len(self.classes)} classes, '
                f'found {len(ids)}'
            )
        return [
            coco_entry(
                mask,
                float(self.scores[mask].mean()),
                category_id=ids[index],
                category=self.classes[index],
                image_id=image_id,
            )
            for index in self.found
            for mask in [self.labels == index]
        ]

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


@dataclass(frozen=True)
class Referred:
    """What one phrase means in one image.

    Attributes:
        mask: (H, W) bool.
        score: IoU with the truth as SAM predicts it.
        text: The phrase.
        image: (H, W, 3) uint8, RGB.

    Examples:
        >>> import numpy as np
        >>> from mmseg_siglip.api import Referred
        >>> mask, image = np.eye(4, dtype=bool), np.zeros((4, 4, 3), np.uint8)
        >>> found = Referred(mask, 0.8, 'the red cup', image)
        >>> found.to_dict()['size'], found.to_coco_rle()[0]['area']
        ([4, 4], 4)
        >>> found.save('mask.png')
    """

    suffix: ClassVar[str] = 'mask.png'
    columns: ClassVar[Mapping[str, str]] = dict(phrase='string', png='binary', score='float32')

    mask: np.ndarray
    score: float
    text: str
    image: np.ndarray

    def plot(
        self,
        *,
        opacity: float = DARK,
        outlines: bool = True,
        labels: bool = False,
        colour: AnyColour = COLOUR,
    ) -> Image.Image:
        """The image, dark where the mask is not, above the phrase.

        Args:
            opacity: Of the dark, 0 to 1.
            outlines: Whether a line is drawn around the mask.
            labels: Whether the phrase is written on the mask, too.
            colour: Of the line, and beside the phrase.

        Raises:
            ValueError: `opacity` or `colour` cannot be used.
        """
        colour, mask = colour_of(colour), self.mask.astype(np.uint8)
        shown = np.where(self.mask[..., None], self.image, blend(self.image, 0, opacity))
        if outlines:
            shown[cv2.dilate(mask, np.ones((3, 3), np.uint8)) > mask] = colour
        picture = Image.fromarray(shown)
        if labels and mask.any():
            write_name(picture, self.text, self.mask)
        return add_legend(picture, [(self.text, colour)])

    def save(self, path: str | Path) -> None:
        """Write the mask: a grey PNG, 255 inside and 0 outside."""
        write_image(self._picture(), path)

    def _picture(self) -> Image.Image:
        return Image.fromarray(self.mask.astype(np.uint8) * 255)

    def to_row(self) -> dict[str, Any]:
        """``phrase``, ``png``, the bytes that `save` writes, and ``score``."""
        png = image_bytes(self._picture())
        return dict(phrase=self.text, png=png, score=float(self.score))

    def to_dict(self) -> dict[str, Any]:
        """``size`` (H, W), ``text``, and ``segments``, see `to_coco_rle`."""
        return dict(size=list(self.mask.shape), text=self.text, segments=self.to_coco_rle())

    def to_coco_rle(self, image_id: int | None = None, *, category_id: int = 0) -> list[dict]:
        """The mask as `Segmentation.to_coco_rle` has a class: a list of one, or none if empty."""
        if not self.mask.any():
            return []
        entry = coco_entry(
            self.mask,
            float(self.score),
            category_id=category_id,
            category=self.text,
            image_id=image_id,
        )
        return [entry]


def coco_entry(
    mask: np.ndarray, score: float, *, category_id: int, category: str, image_id: int | None
) -> dict[str, Any]:
    """A mask (H, W) as COCO has it, see `Segmentation.to_coco_rle`."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    entry = dict(
        category_id=category_id,
        category=category,
        segmentation=dict(size=list(mask.shape), counts=rle['counts'].decode('ascii')),
    )
    if image_id is not None:
        return dict(image_id=image_id) | entry | dict(score=score)
    box = [float(value) for value in coco_mask.toBbox(rle)]
    return entry | dict(area=int(mask.sum()), bbox=box, score=score)
