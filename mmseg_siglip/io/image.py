"""Bytes to pixels, for files that nobody vouches for.

Pillow reads the header first, so that size and format are judged before anything is decoded. On
8-bit JPEG and PNG its pixels equal OpenCV's.
"""

from __future__ import annotations

import io
import os
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')
MAX_PIXELS = 100_000_000
LONGEST = 32  # times the short side, which is enlarged to an encoder's size
SIXTEEN_BIT = ('I;16', 'I;16B', 'I;16L', 'I;16N')

ImageLike = str | Path | Image.Image | np.ndarray | Tensor


@contextmanager
def _opened(data: bytes, name: str, max_pixels: int):
    """Open ``data`` with Pillow; whatever goes wrong inside becomes one ValueError."""
    if not data:
        raise ValueError(f'{name} is an empty file')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise _Refused(
                        f'{name} has {width} x {height} pixels, more than max_pixels={max_pixels}'
                    )
                yield image
    except _Refused as error:
        raise ValueError(str(error)) from None
    except Image.DecompressionBombError as error:
        raise ValueError(f'{name} is too large: {error}') from None
    except Image.UnidentifiedImageError:
        raise ValueError(f'{name} is not an image of a known kind ({", ".join(FORMATS)})') from None
    except Exception as error:  # Pillow's readers raise nearly every built-in type on bad bytes
        raise ValueError(f'{name} cannot be decoded: {error or type(error).__name__}') from None


class _Refused(ValueError):
    """A reason of ours, ready for the user."""


def decode_image(
    data: bytes, name: str, *, apply_exif: bool = False, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decode to what OpenCV calls a colour image.

    Grey, palette and 1-bit pixels are spread to three channels, CMYK is converted, 16-bit values
    are divided by 256, transparent pixels lie on white, and of an animation the first frame counts.

    Args:
        data: The file's bytes.
        name: What to call the file in an error.
        apply_exif: Turn the image upright by its EXIF orientation.
        max_pixels: Largest width x height that is decoded.

    Returns:
        uint8 (H, W, 3), channels blue, green, red.

    Raises:
        ValueError: Empty, corrupt, truncated, too large, or of a format or depth not listed here.
    """
    with _opened(data, name, max_pixels) as image:
        return np.ascontiguousarray(to_rgb(image, name, apply_exif=apply_exif)[..., ::-1])


def to_rgb(image: Image.Image, name: str, *, apply_exif: bool = False) -> np.ndarray:
    """The pixels of an opened image, converted as in `decode_image`.

    Returns:
        uint8 (H, W, 3), channels red, green, blue.

    Raises:
        ValueError: 32-bit grey values.
    """
    sixteen_bit = image.mode in SIXTEEN_BIT or (image.mode == 'I' and image.format == 'PPM')
    if apply_exif:
        image = ImageOps.exif_transpose(image)
    if sixteen_bit:
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ('I', 'F'):
        raise _Refused(f'{name} has 32-bit grey values, whose range is unknown')
    if image.has_transparency_data:
        image = image.convert('RGBA')
        white = Image.new('RGBA', image.size, 'white')
        image = Image.alpha_composite(white, image)
    return np.array(image.convert('RGB'))


def decode_labels(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a label map: one integer a pixel, of 1, 8 or 16 bits, or palette indices.

    Returns:
        int32 (H, W). This is the widest integer that OpenCV resizes, rotates and pads in all of
        its versions; it holds every 16-bit label.

    Raises:
        ValueError: As ``decode_image``, and on files with several channels.
    """
    with _opened(data, name, max_pixels) as image:
        if image.mode not in ('1', 'L', 'P', 'I', *SIXTEEN_BIT):
            raise _Refused(
                f'{name} is a label map with mode {image.mode}; expected one channel of class '
                'indices (grey or palette)'
            )
        return np.asarray(image).astype(np.int32)


def decode_depth(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a depth map of 16-bit integers or 32-bit floats, in the file's own units.

    Returns:
        float32 (H, W).

    Raises:
        ValueError: As ``decode_image``, and on 8-bit files, whose 256 steps are no measurement.
    """
    with _opened(data, name, max_pixels) as image:
        if image.mode not in ('I', 'F', *SIXTEEN_BIT):
            raise _Refused(
                f'{name}: expected a depth map of one channel with 16-bit or float values, '
                f'found mode {image.mode}'
            )
        return np.asarray(image).astype(np.float32)


def check_tensor(image: Tensor) -> Tensor:
    """`image`, if it is (3, H, W), uint8 or float in [0, 1].

    Raises:
        ValueError: It is not.
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f'expected an RGB tensor (3, H, W), found {tuple(image.shape)}')
    if image.dtype == torch.uint8:
        return image
    if not image.is_floating_point() or image.min() < 0 or image.max() > 1:
        raise ValueError(
            f'expected uint8, or float in [0, 1]; found {image.dtype} '
            f'in [{image.min():g}, {image.max():g}]'
        )
    return image


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
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f'expected an RGB array (H, W, 3) of uint8, found {image.shape} of {image.dtype}'
        )
    return np.ascontiguousarray(image)
