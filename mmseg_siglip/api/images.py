"""One photograph or several, in any form.

Shapes: an image is (H, W, 3) as an array and (3, H, W) as a tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmseg_siglip.io.image import ImageLike, read_image


def is_single(images: Any) -> bool:
    """Whether this is one image, not several."""
    return isinstance(images, (str, Path, Image.Image, np.ndarray, Tensor))


def read_images(images: ImageLike | Sequence[ImageLike]) -> list[np.ndarray]:
    """One image or several as RGB, (H, W, 3) uint8 each.

    Raises:
        ValueError: See `read_image`; or something is no image at all.
    """
    images = [*images] if isinstance(images, Iterable) and not is_single(images) else [images]
    for image in images:
        if not is_single(image):
            raise ValueError(f'expected an image, found a {type(image).__name__}')
    return [read_image(image) for image in images]


def as_tensor(rgb: np.ndarray) -> Tensor:
    """(H, W, 3) to (3, H, W), which shares its memory."""
    return torch.from_numpy(rgb).permute(2, 0, 1)
