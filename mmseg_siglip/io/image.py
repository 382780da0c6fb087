"""Bytes to pixels, for files that nobody vouches for.

Pillow reads the header first, so that size and format are judged before anything is decoded. On
8-bit JPEG and PNG its pixels equal OpenCV's. Whatever a file claims, decoding takes at most 20
bytes for each of ``max_pixels``: 2 GB at `MAX_PIXELS`. WebP comes near that, others to half of it.
An AVIF whose codestream is larger than its header says takes what libavif allows: 2**28 pixels.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mmseg_siglip.io.depth_unit import check_unit
from mmseg_siglip.io.frames import choose_frame
from mmseg_siglip.io.grey_bits import FULL, eight_bits, largest_of_ppm, used_bits
from mmseg_siglip.io.image_claims import (
    Refused,
    refuse_canvas,
    refuse_codestream,
    refuse_parts,
    refuse_pixels,
    refuse_scans,
)
from mmseg_siglip.io.image_kinds import FORMATS, HEAD, image_kind, why_unread
from mmseg_siglip.io.regular_file import read_regular
from mmseg_siglip.io.web_image import fetch_image, is_address

MAX_PIXELS = 100_000_000
BAND = 2**20  # pixels that are converted at a time
LONGEST = 32  # times the short side, which is enlarged to an encoder's size
PAGES = ('HEIF', 'MPO', 'TIFF')  # files whose pictures may differ in size
SIXTEEN_BIT = ('I;16', 'I;16B', 'I;16L', 'I;16N')

ImageLike = str | Path | Image.Image | np.ndarray | Tensor


@contextmanager
def _opened(
    data: bytes,
    name: str,
    max_pixels: int,
    frame: int | None = None,
    kinds: Sequence[str] = FORMATS,
):
    """Open one picture with Pillow; whatever goes wrong inside becomes one ValueError."""
    if not data:
        raise ValueError(f'{name} is an empty file')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            refuse_canvas(data, name, max_pixels)
            refuse_scans(data, name, first=frame is None)
            refuse_codestream(data, name, max_pixels)
            with Image.open(io.BytesIO(data), formats=kinds) as image:
                refuse_pixels(*image.size, name, max_pixels)
                refuse_parts(image, name)
                choose_frame(image, name, frame, data)
                if image.format in PAGES:  # each has a size of its own
                    refuse_pixels(*image.size, name, max_pixels)
                    refuse_parts(image, name)
                yield image
    except Refused as error:
        raise ValueError(str(error)) from None
    except Image.DecompressionBombError as error:
        raise ValueError(f'{name} is too large: {error}') from None
    except Image.UnidentifiedImageError:
        kind = image_kind(data[:HEAD])
        raise ValueError(f'{name} {why_unread(kind) or f"cannot be decoded as {kind}"}') from None
    except Exception as error:  # Pillow's readers raise nearly every built-in type on bad bytes
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise ValueError(f'{name} cannot be decoded: {reason}') from None


def decode_image(
    data: bytes,
    name: str,
    *,
    apply_exif: bool = False,
    max_pixels: int = MAX_PIXELS,
    frame: int | None = None,
    kinds: Sequence[str] = FORMATS,
) -> np.ndarray:
    """Decode to what OpenCV calls a colour image.

    Grey, palette and 1-bit pixels are spread to three channels, CMYK is converted, 16-bit values
    are divided by 256, or by less where the file says that it uses fewer bits (see `used_bits`),
    and transparent pixels lie on white.

    Args:
        data: The file's bytes.
        name: What to call the file in an error.
        apply_exif: Turn the image upright by its EXIF orientation.
        max_pixels: Largest width x height that is decoded.
        frame: Of a file of several pictures, which, from 0; see `choose_frame`.
        kinds: Those that may be decoded.

    Returns:
        uint8 (H, W, 3), channels blue, green, red.

    Raises:
        ValueError: Empty, corrupt, truncated, too large, of a format or depth not listed here, or
            of several pictures, of which no frame is asked for.
    """
    with _opened(data, name, max_pixels, frame, kinds) as image:
        bits = used_bits(image, data)
        return to_rgb(image, name, apply_exif=apply_exif, bits=bits, bgr=True)


def to_rgb(
    image: Image.Image,
    name: str,
    *,
    apply_exif: bool = False,
    bits: int = FULL,
    bgr: bool = False,
) -> np.ndarray:
    """The pixels of an opened image, converted as in `decode_image`.

    Args:
        image: Any image of Pillow's.
        name: What to call it in an error.
        apply_exif: Turn it upright by its EXIF orientation.
        bits: Of 16-bit values, those that are used.
        bgr: Blue first, not red.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: 32-bit grey values, or colours that fill less than 16 bits.
    """
    sixteen_bit = image.mode in SIXTEEN_BIT or (image.mode == 'I' and image.format == 'PPM')
    if image.mode in ('I', 'F') and not sixteen_bit:
        raise Refused(f'{name} has 32-bit grey values, whose range is unknown')
    if apply_exif:
        ImageOps.exif_transpose(image, in_place=True)
    if sixteen_bit:
        values = by_bands(image, np.asarray, np.uint16)
        grey = eight_bits(values, bits, scaled=image.format == 'PNG')
        return np.repeat(grey[..., None], 3, axis=2)
    transparent = image.has_transparency_data

    def convert(band: Image.Image) -> np.ndarray:
        if transparent:
            band = band.convert('RGBA')
            band = Image.alpha_composite(Image.new('RGBA', band.size, 'white'), band)
        band = band if band.mode == 'RGB' else band.convert('RGB')
        return np.asarray(band)[..., :: -1 if bgr else 1]

    pixels = by_bands(image, convert, np.uint8, channels=(3,))
    if bits < FULL and 0 < pixels.max() < 1 << (bits - 8):
        raise Refused(
            f'{name} has colours of {bits} bits in 16, of which Pillow keeps the highest 8: '
            'expected values that fill 16 bits'
        )
    return pixels


def by_bands(
    image: Image.Image,
    convert: Callable[[Image.Image], np.ndarray],
    dtype: np.dtype,
    *,
    channels: tuple[int, ...] = (),
) -> np.ndarray:
    """An array (H, W, ...) of a whole image, converted some rows at a time to save memory."""
    width, height = image.size
    if width * height <= BAND:
        return np.array(convert(image), dtype, order='C')
    pixels = np.empty((height, width, *channels), dtype)
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = convert(image.crop((0, top, width, bottom)))
    return pixels


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
            raise Refused(
                f'{name} is a label map with mode {image.mode}; expected one channel of class '
                'indices (grey or palette), or label_colours of a FolderDataset'
            )
        return _values(image, np.int32)


def decode_depth(
    data: bytes, name: str, *, per_metre: float | None = None, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decode a depth map of 16-bit integers or 32-bit floats, in the file's own units.

    Args:
        data: The file.
        name: Of it.
        per_metre: Units that it is taken to have in a metre.
        max_pixels: Largest width x height that is decoded.

    Returns:
        float32 (H, W).

    Raises:
        ValueError: As ``decode_image``; on 8-bit files, whose 256 steps are no measurement; and on
            files of ours that say they have another unit or none.
    """
    with _opened(data, name, max_pixels) as image:
        if image.mode not in ('I', 'F', *SIXTEEN_BIT):
            raise Refused(
                f'{name}: expected a depth map of one channel with 16-bit or float values, '
                f'found mode {image.mode}'
            )
        check_unit(image.info, name, per_metre)
        return _values(image, np.float32)


def _values(image: Image.Image, dtype: np.dtype) -> np.ndarray:
    """The numbers of one channel as they are in the file."""
    largest, scaled = largest_of_ppm(image)
    if largest == scaled:
        return by_bands(image, np.asarray, dtype)
    return by_bands(image, lambda band: np.rint(np.asarray(band) * (largest / scaled)), dtype)


def check_tensor(image: Tensor) -> Tensor:
    """`image`, if it is (3, H, W), uint8 or float in [0, 1].

    Raises:
        ValueError: It is not.
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f'expected an RGB tensor (3, H, W), found {tuple(image.shape)}')
    if image.dtype == torch.uint8:
        return image
    low, high = torch.stack(image.aminmax()).tolist()  # a GPU is waited for once
    if not image.is_floating_point() or low < 0 or high > 1:
        raise ValueError(
            f'expected uint8, or float in [0, 1]; found {image.dtype} in [{low:g}, {high:g}]'
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


def decode_rgb(
    data: bytes,
    name: str,
    *,
    max_pixels: int = MAX_PIXELS,
    frame: int | None = None,
    kinds: Sequence[str] = FORMATS,
) -> np.ndarray:
    """An encoded image as RGB, (H, W, 3) uint8, upright by its EXIF orientation.

    Raises:
        ValueError: See `decode_image` and `check_sides`.
    """
    bgr = decode_image(data, name, apply_exif=True, max_pixels=max_pixels, frame=frame, kinds=kinds)
    check_sides(*bgr.shape[:2], name)
    return np.ascontiguousarray(bgr[..., ::-1])


def read_image(image: ImageLike, *, frame: int | None = None) -> np.ndarray:
    """Any image as RGB, (H, W, 3) uint8.

    Args:
        image: A file, an address (``https://...``, see `fetch_image`), an image of Pillow's, an
            array or a tensor.
        frame: Of a file of several pictures, which, from 0. An image of Pillow's is taken as it is
            after its ``seek``.

    Raises:
        ValueError: It cannot be read, or has another shape or type; it holds several pictures, of
            which none was chosen; or a frame is asked for of what is no file.
    """
    if isinstance(image, (str, Path)):
        data = fetch_image(image) if is_address(image) else _read_file(image)
        return decode_rgb(data, str(image), frame=frame)
    if frame is not None:
        raise ValueError(f'frame: expected a file beside it, found a {type(image).__name__}')
    if isinstance(image, Image.Image):
        if not image.tell():
            choose_frame(image, 'the image')
        return to_rgb(image, 'the image', bits=used_bits(image))
    if isinstance(image, Tensor):
        image = check_tensor(image).cpu()
        image = image if image.dtype == torch.uint8 else (255 * image).round().byte()
        return image.permute(1, 2, 0).contiguous().numpy()
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f'expected an RGB array (H, W, 3) of uint8, found {image.shape} of {image.dtype}'
        )
    return np.ascontiguousarray(image)


def _read_file(path: str | Path) -> bytes:
    try:
        return read_regular(path)
    except FileNotFoundError:
        raise ValueError(f'{path}: no such image file') from None
    except IsADirectoryError:
        raise ValueError(f'{path} is a folder: expected an image file, or a list of them') from None
    except OSError as error:
        raise ValueError(f'{path}: {error.strerror or error}') from None
    except ValueError as error:
        raise ValueError(f'{path} {error}') from None
