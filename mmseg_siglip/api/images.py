"""Photographs in any form, as RGB.

Shapes: an image is (H, W, 3) as an array and (3, H, W) as a tensor.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmseg_siglip.io.image import check_tensor, decode_image, to_rgb

LONGEST = 32  # times the short side, which is enlarged to the encoder's size

ImageLike = str | Path | Image.Image | np.ndarray | Tensor


def is_single(images: Any) -> bool:
    """Whether this is one image, not several."""
    return isinstance(images, (str, Path, Image.Image, np.ndarray, Tensor))


def check_sides(height: int, width: int, name: str) -> None:
    """Refuse what becomes enormous when its short side is enlarged.

    Raises:
        ValueError: One side is more than `LONGEST` times the other.
    """
    if max(height, width) > LONGEST * min(height, width):
        raise ValueError(
            f'{name} has {width} x {height} pixels, expected sides of at most {LONGEST} to 1'
        )


def decode_rgb(data: bytes, name: str) -> np.ndarray:
    """An encoded image as RGB, (H, W, 3) uint8, upright by its EXIF orientation.

    Raises:
        ValueError: See `decode_image` and `check_sides`.
    """
    bgr = decode_image(data, name, apply_exif=True)
    check_sides(*bgr.shape[:2], name)
    return np.ascontiguousarray(bgr[..., ::-1])


def read_image(image: ImageLike) -> np.ndarray:
    """Any image as RGB, (H, W, 3) uint8.

    Raises:
        ValueError: It cannot be read, or has another shape or type.
    """
    if isinstance(image, (str, Path)):
        path = Path(image)
        if not os.path.isfile(path):
            raise ValueError(f'{path}: no such image file')
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ValueError(f'{path}: {error.strerror or error}') from None
        return decode_rgb(data, str(path))
    if isinstance(image, Image.Image):
        return to_rgb(image, 'the image')
    if isinstance(image, Tensor):
        image = check_tensor(image).cpu()
        image = image if image.dtype == torch.uint8 else (255 * image).round().byte()
        return image.permute(1, 2, 0).contiguous().numpy()
    if not isinstance(image, np.ndarray):
        raise ValueError(f'expected an image, found a {type(image).__name__}')
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f'expected an RGB array (H, W, 3) of uint8, found {image.shape} of {image.dtype}'
        )
    return np.ascontiguousarray(image)


def as_tensor(rgb: np.ndarray) -> Tensor:
    """(H, W, 3) to (3, H, W), which shares its memory."""
    return torch.from_numpy(rgb).permute(2, 0, 1)
