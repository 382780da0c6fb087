"""What came out for one image, and the forms that people need it in.

Shapes: an image is (H, W, 3) uint8, RGB; a mask or map is (H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import cv2
import numpy as np
from matplotlib import colormaps
from PIL import Image
from pycocotools import mask as coco_mask

from mmseg_siglip.api.drawing import add_bar, add_legend, add_text
from mmseg_siglip.io.files import write_array, write_atomically, write_image
from mmseg_siglip.io.normal_colours import normal_colours
from mmseg_siglip.text.class_colours import class_colours

ALPHA = 0.55
COLOUR = (255, 40, 200)
DIMMED = 0.4
LARGEST = 65535  # of 16 bits


@runtime_checkable
class Result(Protocol):
    """What every result has.

    Attributes:
        image: (H, W, 3) uint8, RGB, as the system saw it.
        suffix: What a file that `save` writes is called after the image's name.
    """

    image: np.ndarray
    suffix: ClassVar[str]

    def plot(self) -> Image.Image:
        """A picture for people."""

    def save(self, path: str | Path) -> None:
        """A file for programs, written whole or not at all; folders above it are made."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""


@dataclass(frozen=True)
class Segmentation:
    """Labels of one image.

    Attributes:
        labels: (H, W) int64, indices into `classes`.
        scores: (H, W) float32 in [0, 1], the probability of each pixel's label.
        classes: C names.
        image: (H, W, 3) uint8, RGB.
    """

    suffix: ClassVar[str] = 'labels.png'

    labels: np.ndarray
    scores: np.ndarray
    classes: tuple[str, ...]
    image: np.ndarray

    @property
    def palette(self) -> np.ndarray:
        """A colour for each class, see `class_colours`: (C, 3) uint8, RGB."""
        return class_colours(self.classes)

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
            write_image(Image.fromarray(self.labels.astype(np.uint16)), path)
            return
        image = Image.fromarray(self.labels.astype(np.uint8), mode='P')
        image.putpalette(self.palette.tobytes())
        write_image(image, path)

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
    """

    suffix: ClassVar[str] = 'mask.png'

    mask: np.ndarray
    score: float
    text: str
    image: np.ndarray

    def plot(self) -> Image.Image:
        """The image, dimmed and outlined where the mask is not, above the phrase."""
        mask = self.mask.astype(np.uint8)
        shown = np.where(self.mask[..., None], self.image, (DIMMED * self.image).astype(np.uint8))
        shown[cv2.dilate(mask, np.ones((3, 3), np.uint8)) > mask] = COLOUR
        return add_legend(Image.fromarray(shown), [(self.text, COLOUR)])

    def save(self, path: str | Path) -> None:
        """Write the mask: a grey PNG, 255 inside and 0 outside."""
        write_image(Image.fromarray(self.mask.astype(np.uint8) * 255), path)

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


@dataclass(frozen=True)
class NormalMap:
    """Surface normals of one image.

    Attributes:
        normals: (H, W, 3) float32, of length 1: x to the right, y upwards, z towards the viewer.
        image: (H, W, 3) uint8, RGB.
    """

    suffix: ClassVar[str] = 'normals.png'

    normals: np.ndarray
    image: np.ndarray

    def plot(self) -> Image.Image:
        """x, y and z from -1 to 1 as red, green and blue, above what three of them mean."""
        facing = [('right', (1, 0, 0)), ('up', (0, 1, 0)), ('viewer', (0, 0, 1))]
        entries = [(name, tuple(normal_colours(np.float32(normal)))) for name, normal in facing]
        return add_legend(Image.fromarray(normal_colours(self.normals)), entries)

    def save(self, path: str | Path) -> None:
        """Write the map; the suffix says how.

        ``.npy``: float32, as it is. ``.png``: 8 bits, -1 to 1 as 0 to 255.

        Raises:
            ValueError: The suffix is another.
        """
        path = Path(path)
        if path.suffix == '.npy':
            write_array(self.normals, path)
        elif path.suffix == '.png':
            write_image(Image.fromarray(normal_colours(self.normals)), path)
        else:
            raise ValueError(f'{path}: expected a name in .png or .npy')

    def to_dict(self) -> dict[str, Any]:
        """``size`` (H, W) and ``mean`` (x, y, z); `save` has the map."""
        mean = [float(value) for value in self.normals.mean((0, 1))]
        return dict(size=list(self.normals.shape[:2]), mean=mean)


@dataclass(frozen=True)
class DepthMap:
    """Depth of one image.

    Attributes:
        depth: (H, W) float32: metres, or inverse depth, larger where nearer, up to an unknown
            scale and shift.
        unit: ``metre`` or ``inverse``.
        image: (H, W, 3) uint8, RGB.
        normals: Surface normals, where they were asked for.
    """

    suffix: ClassVar[str] = 'depth.png'

    depth: np.ndarray
    unit: str
    image: np.ndarray
    normals: NormalMap | None = None

    @property
    def relative(self) -> bool:
        """Whether it knows no metres."""
        return self.unit == 'inverse'

    @property
    def limits(self) -> tuple[float, float] | None:
        """The smallest and the largest finite value; None if there is none."""
        finite = self.depth[np.isfinite(self.depth)]
        return (float(finite.min()), float(finite.max())) if finite.size else None

    def _spread(self) -> np.ndarray:
        """(H, W) in [0, 1]: from the smallest to the largest value, 0 where there is none."""
        low, high = self.limits or (0.0, 0.0)
        finite = np.isfinite(self.depth)
        return np.where(finite, self.depth - low, 0) / ((high - low) or 1.0)

    def plot(self) -> Image.Image:
        """Depth in colours, the nearest bright and the unknown black, above a bar with its ends."""
        colours = (colormaps['magma'](np.linspace(0.1, 1, 256))[:, :3] * 255).astype(np.uint8)
        ends = ('far', 'near')
        if self.unit == 'metre':
            colours = colours[::-1]
            ends = [f'{value:.2f} m' for value in self.limits or (np.nan, np.nan)]
        shown = colours[(255 * self._spread()).round().astype(np.uint8)]
        shown[~np.isfinite(self.depth)] = 0
        return add_bar(Image.fromarray(shown), colours, *ends)

    def save(self, path: str | Path, *, scale: float = 1000.0) -> None:
        """Write the map; the suffix says how.

        ``.npy``: float32, as it is. ``.png``: 16 bits; `scale` units a metre, so millimetres, and
        0 where depth is unknown. Inverse depth has no unit: its range is spread over 0 to 65535.

        Raises:
            ValueError: The suffix is another, or depth is beyond what 16 bits hold at that scale.
        """
        path = Path(path)
        if path.suffix == '.npy':
            write_array(self.depth, path)
            return
        if path.suffix != '.png':
            raise ValueError(f'{path}: expected a name in .png or .npy')
        units = LARGEST * self._spread()
        if self.unit == 'metre':
            units = scale * np.where(np.isfinite(self.depth), self.depth, 0).clip(min=0)
            if units.max() > LARGEST:
                raise ValueError(
                    f'{path}: expected at most {LARGEST / scale:g} m at a depth scale of '
                    f'{scale:g}, found {self.depth.max():g} m; take a smaller scale, or .npy'
                )
        write_image(Image.fromarray(units.round().astype(np.uint16)), path)

    def to_dict(self) -> dict[str, Any]:
        """``size`` (H, W), ``unit``, ``relative``, ``limits`` (smallest, largest)."""
        limits = self.limits and list(self.limits)
        size = list(self.depth.shape)
        return dict(size=size, unit=self.unit, relative=self.relative, limits=limits)


class Answer(str):
    """The answer to a question about one image: a string that knows what it answers.

    Attributes:
        question: What was asked.
        image: (H, W, 3) uint8, RGB.
    """

    suffix: ClassVar[str] = 'answer.txt'

    question: str
    image: np.ndarray

    def __new__(cls, text: str, question: str, image: np.ndarray) -> Answer:
        answer = super().__new__(cls, text)
        answer.question, answer.image = question, image
        return answer

    def __getnewargs__(self) -> tuple[str, str, np.ndarray]:
        return str(self), self.question, self.image

    def plot(self) -> Image.Image:
        """The image above question and answer."""
        return add_text(Image.fromarray(self.image), [self.question, self])

    def save(self, path: str | Path) -> None:
        """Write the answer as text, UTF-8."""
        write_atomically(f'{self}\n', path)

    def to_dict(self) -> dict[str, Any]:
        """``question`` and ``answer``."""
        return dict(question=self.question, answer=str(self))


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
